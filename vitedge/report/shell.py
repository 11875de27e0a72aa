"""The frame of every page: one HTML file that loads nothing and is forbidden to."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from vitedge.report.colours import rules
from vitedge.report.tables import escape


def page(title: str, body: str, script: str) -> str:
    """A complete HTML document.

    Args:
        title: Plain text.
        body: HTML; whoever made it has escaped what came from outside.
        script: Script elements for its end, or nothing.
    """
    folder = files("vitedge.report")
    if "<pre>" in body:
        script += f"<script>\n{folder.joinpath('copying.js').read_text('utf-8')}</script>"
    return Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(title),
        style=folder.joinpath("page.css").read_text("utf-8") + rules(body + script),
        body=body,
        script=script,
    )
