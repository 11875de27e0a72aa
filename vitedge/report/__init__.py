"""The report pages: HTML files without network.

With ``vl-convert-python`` installed its charts are Vega's, with tooltips; without it, as on the
device itself, they are plain drawings of the same numbers.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.resources import files
from string import Template

from vitedge.report.drawing import draw
from vitedge.report.results import Report, Row
from vitedge.report.sections import changes, making, picked
from vitedge.report.shell import page
from vitedge.report.summary import summary
from vitedge.report.tables import about, environment, escape, messages, rows_tables

__all__ = ["render_html"]


def render_html(report: Report, *, title: str = "vitedge bench") -> str:
    """Renders a report page.

    Args:
        report: The report of the bench.
        title: Heading of the page.

    Returns:
        A complete HTML document; everything that came from files is escaped.
    """
    report = _named_briefly(report)
    drawn = draw(report)
    body = Template(files(__name__).joinpath("bench.html").read_text("utf-8")).substitute(
        title=escape(title),
        summary=escape(summary(report)),
        picked=picked(report),
        making=making(report),
        about=about(report),
        rows=rows_tables(report.rows),
        charts=drawn.markup,
        messages=messages(report),
        layers=drawn.layers,
        changes=changes(report),
        environment=environment(report.environment),
    )
    return page(title, body, drawn.script)


def _named_briefly(report: Report) -> Report:
    """The report with artefacts named without the folder that all of them share."""
    if len({os.path.dirname(row.artifact) for row in report.rows}) != 1:
        return report
    return replace(report, rows=tuple(map(_brief, report.rows)))


def _brief(row: Row) -> Row:
    ratio = row.ratio
    if ratio is not None:
        ratio = replace(ratio, baseline=os.path.basename(ratio.baseline))
    return replace(row, artifact=os.path.basename(row.artifact), ratio=ratio)
