"""Lines over epochs as plain SVG, for machines without the plotting library."""

from __future__ import annotations

from vitedge.report.colours import mark
from vitedge.report.lines import COLOURS, Chart
from vitedge.report.plain import WIDTH, line, svg, text

_DASHES = ("none", "6 3")
_HEIGHT = 240
_MARGIN, _TOP, _BOTTOM = 8, 40, 28


def draw(chart: Chart) -> str:
    """The chart, its axis from the least to the largest value."""
    epochs = [epoch for each in chart.lines for epoch, _ in each.points]
    values = [value for each in chart.lines for _, value in each.points]
    first, last, low, high = min(epochs), max(epochs), min(values), max(values)
    across, up = max(1, last - first), high - low or 1.0
    height = _HEIGHT - _TOP - _BOTTOM

    def place(epoch: int, value: float) -> str:
        x = _MARGIN + (WIDTH - _MARGIN - 8) * (epoch - first) / across
        return f"{x:.1f},{_TOP + height * (high - value) / up:.1f}"

    marks = [
        text(_MARGIN, 14, f"{chart.title} (from {low:.4g} to {high:.4g})"),
        text(WIDTH - 8, _HEIGHT - 8, f"Epoch (from {first} to {last})", "end"),
        line(_MARGIN, _TOP, _MARGIN, _HEIGHT - _BOTTOM),
        line(_MARGIN, _HEIGHT - _BOTTOM, WIDTH, _HEIGHT - _BOTTOM),
    ]
    for index, each in enumerate(chart.lines):
        points = " ".join(place(*point) for point in each.points)
        colour, dashes = mark(COLOURS[index]), _DASHES[index]
        marks.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"><title>{each.name}</title></polyline>'
        )
        x, y = place(*each.points[-1]).split(",")
        marks.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>')
        if len(chart.lines) > 1:
            start = _MARGIN + 120 * index
            marks.append(
                f'<line x1="{start}" y1="26" x2="{start + 24}" y2="26" stroke="{colour}" '
                f'stroke-width="2" stroke-dasharray="{dashes}"/>'
            )
            marks.append(text(start + 30, 30, each.name))
    return svg(marks, _HEIGHT, in_words(chart))


def in_words(chart: Chart) -> str:
    """The chart for those who do not see it."""
    parts = [
        f"{each.name} from {each.points[0][1]:.4g} after epoch {each.points[0][0]} "
        f"to {each.points[-1][1]:.4g} after epoch {each.points[-1][0]}"
        for each in chart.lines
    ]
    return f"{chart.title} over the epochs: {'; '.join(parts)}"
