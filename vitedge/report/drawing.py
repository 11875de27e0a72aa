"""Drawing the charts: by Vega in the reader's browser, or plainly without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitedge.report import plain, plain_layers
from vitedge.report.charts import (
    QUANTILES,
    VEGALITE_VERSION,
    Spec,
    distributions,
    front,
    sustained,
)
from vitedge.report.layers import LAYERS_CAPTION, DrawnLayer, drawn_layers, layers_chart
from vitedge.report.points import Point, quality_title, shows_loss, timed_points
from vitedge.report.results import Report


@dataclass(frozen=True)
class Drawing:
    """HTML for the places of the charts, and for the end of the body."""

    markup: str
    layers: str
    script: str


def draw(report: Report) -> Drawing:
    """All charts that the numbers allow; interactive where ``vl-convert-python`` is installed."""
    points = timed_points(report.rows, report.pick)
    errors = drawn_layers(report.layers)
    if not points and not errors:
        return Drawing("", "", "")
    code = library()
    if code is None:
        section = _layer_section(plain_layers.worst_layers(errors), plain_layers.CAPTION, errors)
        return Drawing(_plain(points), section, "")
    specs, markup = _interactive(points)
    section = ""
    if errors:
        specs["layers"] = layers_chart(errors)
        section = _layer_section(place("layers"), LAYERS_CAPTION, errors)
    return Drawing(markup, section, script(code, specs))


def _layer_section(drawn: str, caption: str, errors: Sequence[DrawnLayer]) -> str:
    if not errors:
        return ""
    return f"<section><h2>Error layer by layer</h2>{figure(drawn, caption)}</section>"


def _plain(points: Sequence[Point]) -> str:
    if not points:
        return ""
    title = quality_title(points)
    figures = [
        figure(
            plain.distributions(points),
            "Warm inferences of each row, from the fastest to the slowest, and the median",
        )
    ]
    if title is not None:
        caption = _front_words(title, points)
        figures.insert(0, figure(plain.front(points, title), caption))
    return "".join(figures)


def _front_words(title: str, points: Sequence[Point]) -> str:
    """Explains the front: its axes, its upright lines if it has any, and the size of a point."""
    words = f"{title}, over latency. The area of a point is the size of the file"
    if all(point.interval is None for point in points):
        return words
    words += ". Upright lines are 95 % intervals"
    if shows_loss(points):
        words += "; if one crosses zero, the difference to float32 is uncertain"
    return words


def _interactive(points: Sequence[Point]) -> tuple[dict[str, Spec], str]:
    """Specifications by the identifier of their place, and the places."""
    if not points:
        return {}, ""
    charts: dict[str, tuple[Spec, str]] = {}
    title = quality_title(points)
    if title is not None:
        caption = _front_words(title, points)
        caption += ". No file is both faster and better than those on the dashed line"
        if any(point.is_picked for point in points):
            caption += ". A ring marks the pick"
        charts["front"] = front(points, title), caption
    caption = (
        f"Warm inferences of each row (up to {QUANTILES}, evenly chosen by rank), and the median"
    )
    charts["latencies"] = distributions(points), caption
    if any(len(point.sustained) > 1 for point in points):
        caption = "Median latency of a long run, in windows of a few seconds"
        charts["sustained"] = sustained(points), caption
    figures = [figure(place(name), caption) for name, (_, caption) in charts.items()]
    return {name: spec for name, (spec, _) in charts.items()}, "".join(figures)


def place(name: str) -> str:
    """The element in which the script draws the chart of this name."""
    return f'<div class="chart" id="{name}"></div>'


def figure(drawn: str, caption: str) -> str:
    """A chart with words below it."""
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def library() -> str | None:
    """Vega as one script, or None where it is not installed."""
    try:
        import vl_convert
    except ImportError:
        return None
    # Its type stub demands the snippet, which has a default.
    bundle: str = vl_convert.javascript_bundle(vl_version=VEGALITE_VERSION)  # type: ignore[call-arg, unused-ignore]
    return bundle


def script(code: str, specs: Mapping[str, Spec]) -> str:
    """The elements that draw each specification in its place.

    Args:
        code: The code that ``library`` gave.
        specs: The specifications, by the name of their place.
    """
    # A script element ends at this word even inside a string, where "<\/" means the same.
    code = code.replace("</script", "<\\/script")
    values = json.dumps(specs).replace("<", "\\u003c")
    return (
        f'<script type="module">{code}</script>\n'
        f'<script type="module">const specs = {values};\n'
        "for (const [name, spec] of Object.entries(specs)) {\n"
        '  vegaEmbed("#" + name, spec, {renderer: "svg", actions: false});\n'
        "}</script>"
    )
