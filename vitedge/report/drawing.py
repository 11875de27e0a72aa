"""Drawing the charts: by Vega in the reader's browser, or plainly without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitedge.report import plain
from vitedge.report.charts import (
    QUANTILES,
    VEGALITE_VERSION,
    Spec,
    distributions,
    front,
    sustained,
)
from vitedge.report.points import Point, quality_title, timed_points

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """HTML for the place of the charts, and for the end of the body."""

    markup: str
    script: str


def draw(rows: Sequence[Row]) -> Drawing:
    """All charts that the rows allow; interactive where ``vl-convert-python`` is installed."""
    points = timed_points(rows)
    if not points:
        return Drawing("", "")
    title = quality_title(points)
    library = _library()
    return _plain(points, title) if library is None else _interactive(points, title, library)


def _plain(points: Sequence[Point], title: str | None) -> Drawing:
    figures = [
        _figure(
            plain.distributions(points),
            "Warm inferences of each row, from the fastest to the slowest, and the median",
        )
    ]
    if title is not None:
        caption = f"{title} against latency; the area of a point is the size of the file"
        figures.insert(0, _figure(plain.front(points, title), caption))
    return Drawing("".join(figures), "")


def _interactive(points: Sequence[Point], title: str | None, library: str) -> Drawing:
    charts: dict[str, tuple[Spec, str]] = {}
    if title is not None:
        caption = (
            f"{title} against latency; the area of a point is the size of the file, and along "
            "the dashed line nothing is both faster and better"
        )
        charts["front"] = front(points, title), caption
    caption = f"Warm inferences of each row: up to {QUANTILES}, evenly by rank, and the median"
    charts["latencies"] = distributions(points), caption
    if any(len(point.sustained) > 1 for point in points):
        caption = "Median latency while running on, in windows of a few seconds"
        charts["sustained"] = sustained(points), caption
    figures = [
        _figure(f'<div class="chart" id="{name}"></div>', caption)
        for name, (_, caption) in charts.items()
    ]
    return Drawing(
        "".join(figures), _script(library, {name: spec for name, (spec, _) in charts.items()})
    )


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _library() -> str | None:
    """Vega as one script, or None where it is not installed."""
    try:
        import vl_convert
    except ImportError:
        return None
    # Its type stub demands the snippet, which has a default.
    bundle: str = vl_convert.javascript_bundle(vl_version=VEGALITE_VERSION)  # type: ignore[call-arg, unused-ignore]
    return bundle


def _script(library: str, specs: Mapping[str, Spec]) -> str:
    # A script element ends at this word even inside a string, where "<\/" means the same.
    code = library.replace("</script", "<\\/script")
    values = json.dumps(specs).replace("<", "\\u003c")
    return (
        f'<script type="module">{code}</script>\n'
        f'<script type="module">const specs = {values};\n'
        "for (const [name, spec] of Object.entries(specs)) {\n"
        '  vegaEmbed("#" + name, spec, {renderer: "svg", actions: false});\n'
        "}</script>"
    )
