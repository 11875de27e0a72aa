"""From a ViT and its statistics to a recipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vitedge.errors import ConversionError, UsageError
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.layers import map_linears
from vitedge.quantize.ranges import (
    input_error,
    searched_range,
    token_scaled_range,
)
from vitedge.quantize.rounding import feedback_factor, output_hessian, round_with_feedback
from vitedge.quantize.smoothing import balance_values, smooth
from vitedge.quantize.weights import searched_scale
from vitedge.spec import Precision
from vitedge.vit import Linear, ViT

# A photo's pixels are integers already: uint8 holds them without any error.
PIXELS = Range(0.0, 255.0)

# Layers that see one or two tokens cost no time in float, but the whole signal passes there.
_FEW_TOKENS = 2


class Quantized(NamedTuple):
    """A recipe, and the ViT that it is for.

    Attributes:
        vit: Computes the same as the ViT that was given, to float32 rounding, but for biases,
            which make up for the mean error of the weights.
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
    token_scaling_below_db: float | None = None,
) -> Quantized:
    """Chooses the numbers of an artefact.

    Args:
        vit: The model, already rewritten; left unchanged.
        precision: fp32 and fp16 have no integers; int8 quantizes every linear layer but
            those that see only one or two tokens of an image.
        statistics: Of this very ViT.
        activations: What the runtime does with the inputs of integer layers.
        keep_float: Names of linear layers that stay float.
        token_scaling_below_db: Inputs whose quantization alone would leave the logits less
            signal-to-noise ratio are scaled token by token (``Recipe.token_scaled``), which costs
            a reduction and two multiplications each, if that at least halves the error. None for
            never; without meaning where activations are per token already.

    Raises:
        UsageError: ``keep_float`` names no layer.
        ConversionError: The precision needs statistics and there are none.
    """
    if precision is not Precision.INT8:
        words = {"linear layers": f"{precision} weights"}
        return Quantized(vit, Recipe(precision, description=words))
    known = dict(vit.named_linears())
    for name in keep_float:
        if name not in known:
            raise UsageError(f"there is no linear layer '{name}' to keep in float")
    if statistics is None:
        raise ConversionError("int8 needs calibration images")
    balanced, statistics = balance_values(vit, statistics)
    smoothed, statistics, exponents = smooth(balanced, statistics, activations)
    floats = set(keep_float)
    floats |= {name for name, it in statistics.inputs.items() if it.tokens <= _FEW_TOKENS}
    if activations is Activations.PER_TOKEN:
        # A scale per image is no exact grid of pixels, as a static range is, and costs 36 dB.
        floats.add("patch")
    threshold = None if activations is Activations.PER_TOKEN else token_scaling_below_db
    rounding = _Rounding(smoothed, statistics, activations, frozenset(floats), threshold)
    return rounding.result(precision, _description(activations, exponents, floats))


class _Rounding:
    """Integers for every layer, and the biases that make up for them."""

    def __init__(
        self,
        vit: ViT,
        statistics: Statistics,
        activations: Activations,
        floats: frozenset[str],
        token_scaling_below_db: float | None,
    ) -> None:
        self._vit, self._statistics, self._activations = vit, statistics, activations
        self._floats, self._token_scaling_below_db = floats, token_scaling_below_db
        self._token_scaled: dict[str, float] = {}
        self._weights: dict[str, IntegerWeight] = {}
        self._inputs: dict[str, Range] = {}
        self._predicted: dict[str, float] = {}
        self._factor_of: InputStatistics | None = None

    def result(self, precision: Precision, description: dict[str, str]) -> Quantized:
        """Rounds layer by layer."""
        vit = map_linears(self._vit, self._rounded)
        if self._token_scaled:
            names = ", ".join(self._token_scaled)
            description |= {"scaled token by token": names}
        recipe = Recipe(
            precision,
            self._weights,
            self._inputs,
            self._token_scaled,
            description,
            self._predicted,
        )
        return Quantized(vit, recipe)

    def _rounded(self, name: str, layer: Linear) -> Linear:
        if name in self._floats:
            return layer
        watched = self._statistics.inputs[name]
        if self._factor_of is not watched:
            # q, k and v share an input, so what depends on it alone is computed once.
            self._factor_of = watched
            self._factor = feedback_factor(output_hessian(watched))
            self._range, self._floor = self._choose_input(name, watched)
        if self._range is not None:
            self._inputs[name] = self._range
        if self._floor is not None:
            self._token_scaled[name] = self._floor
        scale = searched_scale(layer.weight, 127)
        integers = round_with_feedback(layer.weight, self._factor, scale)
        weight = self._weights[name] = IntegerWeight(integers, scale)
        kept = weight.dequantized()
        missing = watched.mean @ (layer.weight - kept)
        return replace(layer, bias=(layer.bias + missing).astype(np.float32))

    def _name_of_input(self, name: str, watched: InputStatistics) -> str:
        """``k`` for an input that q, k and v share."""
        shared = f"{name.removesuffix('.q')}.k"
        return shared if self._statistics.inputs.get(shared) is watched else name

    def _choose_input(
        self, name: str, watched: InputStatistics
    ) -> tuple[Range | None, float | None]:
        """Range and floor of the layer's input, where it has them."""
        if name == "patch" and self._vit.config.raw_pixels:
            return PIXELS, None
        covered, floor = None, None
        if self._activations is Activations.STATIC:
            covered, error = searched_range(watched)
        else:
            error = input_error(watched, self._activations)
        below_db = self._token_scaling_below_db
        if below_db is not None and self._statistics.sqnr_db(error) < below_db:
            quotient, least, scaled_error = token_scaled_range(watched)
            if scaled_error < error / 2:
                covered, floor, error = quotient, least, scaled_error
        if len(watched.rows):
            shared = self._name_of_input(name, watched)
            self._predicted[shared] = self._statistics.sqnr_db(error)
        return covered, floor


def _description(
    activations: Activations, exponents: dict[str, float], floats: set[str]
) -> dict[str, str]:
    moved = sum(exponent > 0 for exponent in exponents.values())
    words = {
        "weights": "int8 per output channel, scale by squared error, rounded with error feedback",
        "biases": "corrected for the mean error of the weights",
        "activations": {
            Activations.PER_TOKEN: "int8 per token, when it runs",
            Activations.PER_TENSOR: "uint8 per tensor, when it runs",
            Activations.STATIC: "uint8, range searched by the predicted error of the logits",
        }[activations],
        "smoothing": f"channels scaled at {moved} of {len(exponents)} inputs",
    }
    if floats:
        words["float layers"] = ", ".join(sorted(floats))
    return words
