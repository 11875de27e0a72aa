"""The same charts as plain SVG, for machines without the plotting library; titles are tooltips."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from vitedge.report.points import Point
from vitedge.terminal.printable import printable

WIDTH, HEIGHT, MARGIN = 720, 340, 48
_ROW = 34
_LARGEST_RADIUS = 14.0


def front(points: Sequence[Point], title: str) -> str:
    """Quality against latency."""
    shown = [point for point in points if point.quality is not None]
    qualities = [point.quality or 0.0 for point in shown]
    right = 1.15 * max(point.median_ms for point in shown)
    low, high = min(qualities), max(qualities)
    spare = 0.1 * (high - low) or 0.5
    low, high = low - spare, high + spare
    largest = max(point.size_mb for point in shown)
    marks = [
        text(MARGIN, 14, f"{title} (from {low:.1f} to {high:.1f})"),
        text(WIDTH - 8, HEIGHT - 8, f"Median latency, ms (from 0 to {right:.3g})", "end"),
        line(MARGIN, 24, MARGIN, HEIGHT - 28),
        line(MARGIN, HEIGHT - 28, WIDTH, HEIGHT - 28),
    ]
    for point, quality in zip(shown, qualities, strict=True):
        x = MARGIN + (WIDTH - MARGIN) * point.median_ms / right
        y = 24 + (HEIGHT - 52) * (high - quality) / (high - low)
        radius = _LARGEST_RADIUS * math.sqrt(point.size_mb / largest)
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(2.0, radius):.1f}" '
            f'fill="{point.format.record.colour}" fill-opacity="0.85">{_title(point)}</circle>'
        )
        words = f"{point.precision} {point.target}"
        # Words to the right of a point near the right edge would be cut off.
        if x < 0.75 * WIDTH:
            marks.append(text(x + radius + 4, y + 4, words))
        else:
            marks.append(text(x - radius - 4, y + 4, words, "end"))
    return svg(marks, HEIGHT, f"{title} against latency")


def distributions(points: Sequence[Point]) -> str:
    """From the fastest to the slowest inference of each row, and the median."""
    right = max(point.quantiles_ms(2)[-1] for point in points)
    marks = []
    for row, point in enumerate(points):
        y = row * _ROW + 24
        scale = (WIDTH - 16) / right
        first, last = point.quantiles_ms(2)[0] * scale, point.quantiles_ms(2)[-1] * scale
        marks.append(text(0, y - 6, f"{point.short}: {point.details['latency']}"))
        marks.append(
            f'<rect x="{first:.1f}" y="{y:.1f}" width="{max(1.0, last - first):.1f}" height="8" '
            f'fill="{point.format.record.colour}" fill-opacity="0.6">{_title(point)}</rect>'
        )
        middle = point.median_ms * scale
        marks.append(line(middle, y - 2, middle, y + 10))
    return svg(marks, len(points) * _ROW + 16, "Distribution of latencies")


def svg(marks: Sequence[str], height: int, description: str, width: int = WIDTH) -> str:
    """A drawing as wide as its place.

    Args:
        marks: SVG elements.
        height: In units of which there are ``width`` across.
        description: For those who do not see it.
        width: The fewer, the larger are words on a phone.
    """
    return (
        f'<div class="chart"><svg role="img" aria-label="{html.escape(description)}" '
        f'viewBox="0 0 {width} {height}" style="max-width: {WIDTH}px" '
        'font-size="13" fill="currentColor" '
        f'stroke="none">{"".join(marks)}</svg></div>'
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words that start, or end, at a point."""
    shown = html.escape(printable(words))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        'stroke="currentColor" stroke-width="1.5"/>'
    )


def _title(point: Point) -> str:
    shown = "\n".join(f"{name}: {value}" for name, value in point.details.items() if value)
    return f"<title>{html.escape(point.label)}\n{html.escape(shown)}</title>"
