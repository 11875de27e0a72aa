"""From a ViT and its statistics to a recipe."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vitedge.errors import ConversionError, UsageError
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.quantize.calibrate import Statistics
from vitedge.quantize.ranges import searched_range
from vitedge.quantize.weights import round_to_nearest
from vitedge.spec import Precision
from vitedge.vit import ViT

# A photo's pixels are integers already: uint8 holds them without any error.
PIXELS = Range(0.0, 255.0)


class Quantized(NamedTuple):
    """A recipe, and the ViT that it is for.

    Attributes:
        vit: Computes the same as the ViT that was given, to float32 rounding, but for biases,
            which make up for the mean error of the integers.
        recipe: Its integers.
    """

    vit: ViT
    recipe: Recipe


def quantize(
    vit: ViT,
    precision: Precision,
    statistics: Statistics | None = None,
    *,
    activations: Activations = Activations.STATIC,
    keep_float: Collection[str] = (),
) -> Quantized:
    """Chooses the numbers of an artefact.

    Args:
        vit: The model, already rewritten; left unchanged.
        precision: fp32 and fp16 have no integers; int8 quantizes every linear layer.
        statistics: Of this very ViT.
        activations: What the runtime does with the inputs of integer layers.
        keep_float: Names of linear layers that stay float.

    Raises:
        UsageError: ``keep_float`` names no layer.
        ConversionError: The precision needs statistics and there are none.
    """
    if precision is not Precision.INT8:
        return Quantized(vit, Recipe(precision, description={"linear layers": f"{precision}"}))
    layers = dict(vit.named_linears())
    for name in keep_float:
        if name not in layers:
            raise UsageError(f"there is no linear layer '{name}' to keep in float")
    if statistics is None:
        raise ConversionError("int8 needs calibration images")
    weights: dict[str, IntegerWeight] = {}
    inputs: dict[str, Range] = {}
    for name, layer in layers.items():
        if name in keep_float:
            continue
        weights[name] = round_to_nearest(layer.weight)
        if activations is Activations.STATIC:
            inputs[name] = searched_range(statistics.inputs[name])
    if "patch" in weights and vit.config.raw_pixels and activations is not Activations.PER_TOKEN:
        inputs["patch"] = PIXELS
    return Quantized(vit, Recipe(precision, weights, inputs, _description(activations)))


def _description(activations: Activations) -> dict[str, str]:
    return {
        "weights": "int8 per output channel, scale by squared error, rounded to nearest",
        "activations": {
            Activations.PER_TOKEN: "int8 per token, when it runs",
            Activations.PER_TENSOR: "uint8 per tensor, when it runs",
            Activations.STATIC: "uint8, range searched by squared error",
        }[activations],
    }
