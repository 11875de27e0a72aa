"""The report pages: HTML files without network; that of a bench is made from its JSON alone.

With ``vl-convert-python`` installed its charts are Vega's, with tooltips; without it, as on the
device itself, they are plain drawings of the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from vitedge.report.drawing import draw
from vitedge.report.sections import changes, picked
from vitedge.report.shell import page
from vitedge.report.summary import summary
from vitedge.report.tables import about, environment, escape, messages, rows_tables

__all__ = ["render_html"]


def render_html(report: Mapping[str, Any], *, title: str = "vitedge bench") -> str:
    """Renders a report page.

    Args:
        report: What ``bench.results.Report.to_dict`` gives, or its JSON read back.
        title: Heading of the page.

    Returns:
        A complete HTML document; everything that came from files is escaped.

    Raises:
        KeyError: The report lacks a part that every report has.
    """
    report = _named_briefly(report)
    rows = report["rows"]
    drawn = draw(report)
    body = Template(files(__name__).joinpath("bench.html").read_text("utf-8")).substitute(
        title=escape(title),
        summary=escape(summary(report)),
        picked=picked(report),
        about=about(report),
        rows=rows_tables(rows),
        charts=drawn.markup,
        messages=messages(report),
        layers=drawn.layers,
        changes=changes(report),
        environment=environment(report["environment"]),
    )
    return page(title, body, drawn.script)


def _named_briefly(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report with artefacts named without the folder that all of them share."""
    folders = {os.path.dirname(row["artifact"]) for row in report["rows"]}
    if len(folders) != 1:
        return report
    rows = []
    for row in report["rows"]:
        brief = {**row, "artifact": os.path.basename(row["artifact"])}
        if row.get("ratio"):
            baseline = os.path.basename(row["ratio"]["baseline"])
            brief["ratio"] = {**row["ratio"], "baseline": baseline}
        rows.append(brief)
    return {**report, "rows": rows}
