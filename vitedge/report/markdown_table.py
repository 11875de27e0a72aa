"""A report as a Markdown table, for a pull request or a README."""

from __future__ import annotations

import re

from vitedge.report.results import Report
from vitedge.report.text_table import filled, notes

# What GitHub would take for markup or the end of a cell (https://github.github.com/gfm/).
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def render_markdown(report: Report) -> str:
    """The table, what it has no room for as a list, and the machine in a line."""
    rows, columns = filled(report)
    lines = [
        _line([column.title for column in columns]),
        _line(["--:" if column.is_number else ":--" for column in columns]),
        *(_line([_escape(column.cell(row)) for column in columns]) for row in rows),
        "",
        *(f"* {_escape(note)}" for note in notes(report)),
        "",
        _escape(_machine(report)),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _machine(report: Report) -> str:
    environment = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    python = f", Python {environment.python}" if environment.python else ""  # Android has none
    return (
        f"{environment.cpu}, {environment.threads} of {environment.physical_cores} cores, "
        f"{environment.os}{python}; {versions}"
    )
