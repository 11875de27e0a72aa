"""Draws the charts as plain SVG, without the plotting library; titles are tooltips."""

from __future__ import annotations

import html
from collections.abc import Sequence

from vitedge.report.axes import Axis, Placed, latency_axis, placed, quality_axis
from vitedge.report.colours import mark
from vitedge.report.points import Point, shows_loss
from vitedge.terminal.printable import printable

# The fewer units there are across, the larger are words on a phone.
WIDTH = 480
_WIDEST = 720  # in pixels, on a desk
_TOP, _HEIGHT = 24, 260  # of the front between its axes
_ROW = 34
_LARGEST_RADIUS = 12.0


def front(points: Sequence[Point], title: str) -> str:
    """Quality against latency, with its interval."""
    shown = [point for point in points if point.quality is not None]
    across = latency_axis([point.median_ms for point in shown])
    up = quality_axis(shown)
    bottom = _TOP + _HEIGHT
    marks = [
        text(4, 14, f"{title} (from {up.low:.1f} to {up.high:.1f})"),
        text(WIDTH, bottom + 18, f"Median latency, ms (from {_ends(across)})", "end"),
        line(1, _TOP, 1, bottom),
        line(1, bottom, WIDTH, bottom),
    ]
    if shows_loss(shown):
        zero = bottom - _HEIGHT * up.share(0.0)
        marks.append(line(1, zero, WIDTH, zero))
    found = placed(shown, height=_HEIGHT, largest_radius=_LARGEST_RADIUS, widths=(WIDTH,))
    marks += [_mark(each) for each in found]
    return svg(marks, bottom + 26, f"{title} against latency")


def _ends(axis: Axis) -> str:
    return f"{axis.low:.3g} to {axis.high:.3g}" + (", logarithmic" if axis.is_log else "")


def _mark(each: Placed) -> str:
    """A point with its interval and its words."""
    point, spot = each.point, each.spot
    x, y, colour = spot.x * WIDTH, spot.y + _TOP, mark(point.format.record.colour)
    top, bottom = (end + _TOP for end in spot.interval)
    drawn = line(x, top, x, bottom, colour)
    drawn += (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(2.0, spot.radius):.1f}" fill="{colour}">'
        f"{_title(point)}</circle>"
    )
    if each.place is not None:
        anchor = "start" if each.place.align == "left" else "end"
        # Words stand on their line, 4 below their middle.
        drawn += text(x + each.place.dx, y + each.place.dy + 4, spot.words, anchor)
    return drawn


def distributions(points: Sequence[Point]) -> str:
    """The range from the fastest to the slowest inference of each row, and the median."""
    right = max(point.quantiles_ms(2)[-1] for point in points)
    marks = []
    for row, point in enumerate(points):
        y = row * _ROW + 24
        scale = (WIDTH - 16) / right
        first, last = point.quantiles_ms(2)[0] * scale, point.quantiles_ms(2)[-1] * scale
        marks.append(text(0, y - 6, f"{point.short}: {point.details['latency']}"))
        marks.append(
            f'<rect x="{first:.1f}" y="{y:.1f}" width="{max(1.0, last - first):.1f}" height="8" '
            f'fill="{mark(point.format.record.colour)}">{_title(point)}</rect>'
        )
        middle = point.median_ms * scale
        marks.append(line(middle, y - 2, middle, y + 10))
    return svg(marks, len(points) * _ROW + 16, "Distribution of latencies")


def svg(marks: Sequence[str], height: int, description: str) -> str:
    """A drawing as wide as its place.

    Args:
        marks: SVG elements.
        height: The height in units of which there are ``WIDTH`` across.
        description: The description for people who do not see it.
    """
    return (
        f'<div class="chart"><svg role="img" aria-label="{html.escape(description)}" '
        f'viewBox="0 0 {WIDTH} {height}" style="max-width: {_WIDEST}px" '
        'font-size="13" fill="currentColor" '
        f'stroke="none">{"".join(marks)}</svg></div>'
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words that start, or end, at a point."""
    shown = html.escape(printable(words))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "currentColor") -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="1.5"/>'
    )


def _title(point: Point) -> str:
    shown = "\n".join(f"{name}: {value}" for name, value in point.details.items() if value)
    return f"<title>{html.escape(point.label)}\n{html.escape(shown)}</title>"
