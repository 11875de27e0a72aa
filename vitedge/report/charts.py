"""The charts of the page, as Vega-Lite specifications (https://vega.github.io/vega-lite)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitedge.report.points import Point, front_of, labelled

Spec = dict[str, Any]

VEGALITE_VERSION = "6.1"

# Wider ranges squeeze the fast ones against the axis.
_LOG_FROM_RATIO = 20
QUANTILES = 101

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
}


def front(points: Sequence[Point], title: str) -> Spec:
    """Quality against latency; a ring is around what was picked."""
    x = _latency_axis([point.median_ms for point in points], "Median latency, ms", "median_ms")
    y = {
        "field": "quality",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "padding": 24},
    }
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": f"{title} against latency of each artefact on each target",
        "data": {"values": [_fields(point) for point in points if point.quality is not None]},
        "width": "container",
        "height": 340,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": [
            {
                "data": {"values": [_fields(point) for point in front_of(points)]},
                "mark": {"type": "line", "color": INK, "opacity": 0.45, "strokeDash": [4, 4]},
                "encoding": {"x": x, "y": y},
            },
            # Below the points, or it would take the pointer from them.
            {
                "data": {"values": [_fields(point) for point in points if point.is_picked]},
                "mark": {"type": "point", "size": 1400, "color": INK, "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.9},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": _format_colours(points),
                    "shape": {"field": "target", "type": "nominal", "title": "Target"},
                    "size": {
                        "field": "size_mb",
                        "type": "quantitative",
                        "title": "Size, MB",
                        "scale": {"domainMin": 0, "range": [0, 700]},
                        "legend": {"tickCount": 3, "symbolFillColor": INK},
                    },
                    "tooltip": _tooltip(),
                },
            },
            _labels(points, x, y, above=True),
            _labels(points, x, y, above=False),
        ],
        "config": CONFIG,
    }


def _labels(points: Sequence[Point], x: Spec, y: Spec, *, above: bool) -> Spec:
    mark: Spec = {"type": "text", "fontSize": 12}
    mark |= {"dy": -18, "baseline": "bottom"} if above else {"dy": 18, "baseline": "top"}
    chosen = labelled(points)[0 if above else 1]
    return {
        "data": {"values": [_fields(point) for point in chosen]},
        "mark": mark,
        "encoding": {"x": x, "y": y, "text": {"field": "precision"}},
    }


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
    x = _latency_axis([row["ms"] for row in quantiles], "Latency, ms", "ms")
    colour = _format_colours(points) | {"legend": None}
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
                "mark": {"type": "tick", "opacity": 0.35, "thickness": 2, "size": 18},
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
    """How latency goes on over minutes."""
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
    y = _latency_axis([row["ms"] for row in windows], "Median latency, ms", "ms")
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
            "color": _format_colours(points),
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


def _latency_axis(values: Sequence[float], title: str, field: str) -> Spec:
    wide = max(values) > _LOG_FROM_RATIO * min(values)
    scale: Spec = {"zero": True, "domainMax": 1.08 * max(values)}
    if wide:
        scale = {"type": "log", "domain": [0.9 * min(values), 1.1 * max(values)], "nice": False}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": scale,
        "axis": {"tickCount": 8, "labelOverlap": "greedy", "labelSeparation": 6},
    }


def _format_colours(points: Sequence[Point]) -> Spec:
    formats = sorted({point.format for point in points})
    return {
        "field": "format",
        "type": "nominal",
        "title": "Format",
        "scale": {"domain": formats, "range": [each.record.colour for each in formats]},
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
        "size_mb": point.size_mb,
        **dict(point.details),
    }


def _tooltip() -> list[Spec]:
    names = ("label", *Point.DETAILS)
    return [{"field": name, "type": "nominal", "title": name.capitalize()} for name in names]
