"""The charts of the page, as Vega-Lite specifications (https://vega.github.io/vega-lite)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from vitedge.report.axes import latency_axis, placed, quality_axis
from vitedge.report.colours import mark
from vitedge.report.points import Point, front_of, shows_loss
from vitedge.targets.formats import Format

Spec = dict[str, Any]

VEGALITE_VERSION = "6.1"

QUANTILES = 101
_LARGEST_AREA = 700.0  # of a symbol, in square pixels
_RING_AREA = 1400.0  # around the pick
_FRONT_HEIGHT = 340

# The page decides ink by its own colours, so that light, dark and print need one drawing.
INK = "currentColor"
_AXIS = {
    "labelColor": INK,
    "titleColor": INK,
    "domainColor": INK,
    "tickColor": INK,
    "gridColor": INK,
    "gridOpacity": 0.15,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
}
CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "symbolBaseFillColor": INK,
        "symbolBaseStrokeColor": INK,
        "orient": "bottom",
        "direction": "horizontal",
        "columns": 3,
        # One legend below the other: side by side they are too wide for a phone.
        "layout": {"bottom": {"direction": "vertical", "anchor": "start"}},
        "labelLimit": 260,
    },
    "text": {"color": INK},
    # Vega-Lite's own 0.7 takes contrast from marks.
    "point": {"opacity": 1},
    "tick": {"opacity": 1},
}


def front(points: Sequence[Point], title: str) -> Spec:
    """Quality against latency, with its interval; a ring is around what was picked."""
    # Large ones first, so that none hides a smaller one.
    shown = sorted(
        (point for point in points if point.quality is not None),
        key=lambda point: -point.size_mb,
    )
    axis = quality_axis(shown)
    x = _latency([point.median_ms for point in shown], "Median latency, ms", "median_ms")
    y = {
        "field": "quality",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [axis.low, axis.high], "nice": False, "zero": False},
    }
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": f"{title} against latency of each artefact on each target",
        "data": {"values": [_fields(point) for point in shown]},
        "width": "container",
        "height": _FRONT_HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": [
            *_zero(points),
            {
                "data": {"values": [_fields(point) for point in front_of(points)]},
                "mark": {"type": "line", "color": INK, "strokeWidth": 1, "strokeDash": [4, 4]},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "low"},
                    "y2": {"field": "high"},
                    "color": format_colours({point.format for point in shown}),
                },
            },
            # Below the points, or it would take the pointer from them.
            {
                "data": {"values": [_fields(point) for point in shown if point.is_picked]},
                "mark": {"type": "point", "size": _RING_AREA, "color": INK, "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y},
            },
            _symbols(shown, x, y),
            *_labels(shown, x, y),
        ],
        "config": CONFIG,
    }


def _zero(points: Sequence[Point]) -> list[Spec]:
    """The line on which float32 stands."""
    if not shows_loss(points):
        return []
    line = {"type": "rule", "color": INK, "strokeWidth": 1}
    return [{"data": {"values": [{}]}, "mark": line, "encoding": {"y": {"datum": 0}}}]


def _symbols(points: Sequence[Point], x: Spec, y: Spec) -> Spec:
    """Colour says the format, the shape says the precision, the area says the size."""
    return {
        "mark": {"type": "point", "filled": True},
        "encoding": {
            "x": x,
            "y": y,
            "color": format_colours({point.format for point in points}),
            "shape": {"field": "precision", "type": "nominal", "title": "Precision"},
            "size": {
                "field": "size_mb",
                "type": "quantitative",
                "title": "Size, MB",
                "scale": {
                    "domain": [0, max(point.size_mb for point in points)],
                    "range": [0, _LARGEST_AREA],
                },
                "legend": {"tickCount": 3, "symbolFillColor": INK},
            },
            "tooltip": _tooltip(),
        },
    }


def _labels(points: Sequence[Point], x: Spec, y: Spec) -> list[Spec]:
    """The words beside each point, as far as there is room for them."""
    found = placed(
        points,
        height=_FRONT_HEIGHT,
        largest_radius=math.sqrt(_LARGEST_AREA) / 2,
        ring_radius=math.sqrt(_RING_AREA) / 2,
    )
    return [
        {
            "data": {"values": [_fields(each.point)]},
            "mark": {"type": "text", "fontSize": 12, "baseline": "middle", **asdict(each.place)},
            "encoding": {"x": x, "y": y, "text": {"value": each.spot.words}},
        }
        for each in found
        if each.place is not None
    ]


def distributions(points: Sequence[Point]) -> Spec:
    """The spread of each row's inferences."""
    quantiles = [
        {**_fields(point), "ms": value}
        for point in points
        for value in point.quantiles_ms(QUANTILES)
    ]
    y = {
        "field": "short",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": 190, "grid": False},
    }
    x = _latency([row["ms"] for row in quantiles], "Latency, ms", "ms")
    colour = format_colours({point.format for point in points}) | {"legend": None}
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": "Distribution of the latency of each artefact on each target",
        "width": "container",
        "height": {"step": 30},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {"y": y},
        "layer": [
            {
                "data": {"values": quantiles},
                "mark": {"type": "tick", "thickness": 1, "size": 18},
                "encoding": {"x": x, "color": colour, "tooltip": _tooltip()},
            },
            {
                "data": {"values": [_fields(point) for point in points]},
                "mark": {"type": "tick", "color": INK, "thickness": 2, "size": 24},
                "encoding": {"x": x | {"field": "median_ms"}, "tooltip": _tooltip()},
            },
        ],
        "config": CONFIG,
    }


def sustained(points: Sequence[Point]) -> Spec:
    """The course of latency over minutes."""
    windows = [
        {**_fields(point), "minute": minute, "ms": value}
        for point in points
        for minute, value in point.sustained
    ]
    x = {
        "field": "minute",
        "type": "quantitative",
        "title": "Minutes",
        "scale": {"zero": True},
        "axis": {"tickCount": 8},
    }
    y = _latency([row["ms"] for row in windows], "Median latency, ms", "ms")
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": "Latency of each artefact while running on",
        "data": {"values": windows},
        "width": "container",
        "height": 240,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {
            "x": x,
            "y": y,
            "color": format_colours({point.format for point in points}),
            "detail": {"field": "label", "type": "nominal"},
            "tooltip": _tooltip(),
        },
        "layer": [
            {
                "mark": {"type": "line"},
                "encoding": {
                    "strokeDash": {
                        "field": "precision",
                        "type": "nominal",
                        "title": "Precision",
                        "legend": {"symbolType": "stroke", "symbolSize": 400},
                    }
                },
            },
            {"mark": {"type": "point", "filled": True}},
        ],
        "config": CONFIG,
    }


def _latency(values_ms: Sequence[float], title: str, field: str) -> Spec:
    axis = latency_axis(values_ms)
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {
            "type": "log" if axis.is_log else "linear",
            "domain": [axis.low, axis.high],
            "nice": False,
        },
        "axis": {"tickCount": 8, "labelOverlap": "greedy", "labelSeparation": 6},
    }


def format_colours(formats: Collection[Format]) -> Spec:
    """The encoding that gives each format its colour."""
    shown = sorted(formats)
    return {
        "field": "format",
        "type": "nominal",
        "title": "Format",
        "scale": {"domain": shown, "range": [mark(each.record.colour) for each in shown]},
    }


def _fields(point: Point) -> dict[str, Any]:
    return {
        "label": point.label,
        "short": point.short,
        "format": point.format,
        "target": point.target,
        "precision": point.precision,
        "median_ms": float(f"{point.median_ms:.4g}"),
        "quality": point.quality,
        "low": None if point.interval is None else point.interval[0],
        "high": None if point.interval is None else point.interval[1],
        "size_mb": point.size_mb,
        **dict(point.details),
    }


def _tooltip() -> list[Spec]:
    names = ("label", *Point.DETAILS)
    return [{"field": name, "type": "nominal", "title": name.capitalize()} for name in names]
