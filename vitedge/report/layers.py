"""Shows where in the model an artefact's error comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.report.charts import CONFIG, INK, VEGALITE_VERSION, Spec, format_colours
from vitedge.report.points import file_name
from vitedge.report.results import LayerErrors
from vitedge.targets.formats import Format

LAYERS_CAPTION = (
    "Signal over error behind each layer, in the model's order; a fall shows where the error begins"
)


@dataclass(frozen=True)
class DrawnLayer:
    """One layer of one artefact in the chart.

    Attributes:
        artifact: The artefact's short name.
        format: Format of the file.
        precision: Its precision, or ``?``.
        position: The position of the layer, from 1.
        layer: Its name.
        sqnr_db: Power of float32's output over that of the difference, in decibel.
    """

    artifact: str
    format: Format
    precision: str
    position: int
    layer: str
    sqnr_db: float


def drawn_layers(compared: Sequence[LayerErrors]) -> list[DrawnLayer]:
    """Every layer of every artefact; those that are equal to the bit have no error to draw."""
    return [
        DrawnLayer(
            artifact=file_name(each.artifact),
            format=each.format,
            precision=str(each.precision or "?"),
            position=position,
            layer=layer.name,
            sqnr_db=layer.sqnr_db,
        )
        for each in compared
        for position, layer in enumerate(each.layers, start=1)
        if layer.sqnr_db is not None
    ]


def layers_chart(errors: Sequence[DrawnLayer]) -> Spec:
    """A line for each artefact, from the first layer to the last."""
    tooltip = [
        {"field": "layer", "type": "nominal", "title": "Layer"},
        {"field": "artifact", "type": "nominal", "title": "Artefact"},
        {"field": "sqnr_db", "type": "quantitative", "title": "SQNR, dB", "format": ".1f"},
    ]
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGALITE_VERSION[0]}.json",
        "description": "Signal over error behind each layer of each artefact",
        "data": {"values": [vars(error) for error in errors]},
        "width": "container",
        "height": 280,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {
            "x": {
                "field": "position",
                "type": "quantitative",
                "title": "Layer, first to last",
                "scale": {"zero": False},
                "axis": {"tickMinStep": 1, "labelOverlap": "greedy"},
            },
            "y": {
                "field": "sqnr_db",
                "type": "quantitative",
                "title": "SQNR, dB",
                "scale": {"zero": False},
            },
            "color": format_colours({error.format for error in errors}),
            "detail": {"field": "artifact", "type": "nominal"},
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
            {
                "mark": {"type": "point", "filled": True, "size": 36},
                "encoding": {"tooltip": tooltip},
            },
            {
                # A far larger target for a finger than the points themselves.
                "params": [
                    {
                        "name": "nearest",
                        "select": {
                            "type": "point",
                            "on": "pointerover",
                            "nearest": True,
                            "clear": "pointerout",
                        },
                    }
                ],
                "mark": {"type": "point", "size": 140, "color": INK},
                "encoding": {
                    "opacity": {
                        "condition": {"param": "nearest", "empty": False, "value": 1},
                        "value": 0,
                    },
                    "tooltip": tooltip,
                },
            },
        ],
        "config": CONFIG,
    }
