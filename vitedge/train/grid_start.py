"""The start of quantization-aware training: the quantizer's own weights for TFLite.

Which layers become integers, which weights share a scale, and how far integers reach is asked of
``vitedge.quantize``, so that what learns is what converts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, map_linears, with_operators
from vitedge.network.operators import Array, Linear
from vitedge.network.saved import array_parts
from vitedge.network.structure import is_inner
from vitedge.quantize import Activations, IntegerWeight, of_each_weight
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.quantize.weights import half_precision, searched_scale
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.fold_attention_scale import fold
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS
from vitedge.targets.precisions import Precision

# Both make small numbers of weights that learn at the rate of all others. Conversion does them.
_LATER = ("fold-input-normalization", "fold-attention-scale")

# All tokens are there in training, though the head reads few of them.
_FEWER_TOKENS = "pooled-queries-only"

# How far a latent weight is from its integer, as a share of what the exact weight is, which counts
# as no further than half a step. On the border between two integers it would fall to either side.
_TOWARDS_EXACT = 0.5


@dataclass(frozen=True, eq=False)
class GridStart:
    """A model that is about to learn on an integer grid.

    Attributes:
        network: The latent weights, which round to the quantizer's integers; all else is the
            model's, in another basis.
        exact: The model before any rounding in the very same basis, block by block.
        scales: The scales of every inner linear layer, float32 ``(groups, outputs)``, each a number
            of half precision.
        bits: 8 or 4.
        rounded_inputs: The layers whose input is made of 8-bit integers, too.
    """

    network: Network
    exact: Network
    scales: Mapping[str, Array]
    bits: int
    rounded_inputs: frozenset[str]


def grid_start(
    network: Network, images: Iterable[npt.NDArray[np.uint8]], precision: Precision
) -> GridStart:
    """Rewrites and quantizes a model, and keeps the weights from before the rounding beside it.

    Args:
        network: The float model; left unchanged.
        images: Pixels to calibrate on, uint8 ``(H, W, C)``.
        precision: int8 or int4.

    Raises:
        DataError: There is no image, or one has another shape or dtype.
    """
    bits = 4 if precision is Precision.INT4 else 8
    rewritten = _rewritten(network, _LATER)
    # Per token, as XNNPACK does it; see docs/decisions/0022.
    quantized = quantize(
        rewritten, precision, calibrate(rewritten, images), activations=Activations.PER_TOKEN
    )
    weights = quantized.recipe.weights
    exact = dict(quantized.exact.named_linears())
    inner = {value.name for value in rewritten.values if is_inner(value)}
    scales: dict[str, Array] = {}

    def latent(name: str, layer: Linear) -> Linear:
        if name not in inner:
            return layer
        before = exact[name].weight
        integers = weights.get(name) or _nearest(before, bits)
        scale = integers.scale.reshape(-1, before.shape[1]).astype(np.float16)
        scales[name] = scale.astype(np.float32)
        steps = of_each_weight(scales[name], len(before))
        middle = integers.values.astype(np.float32)
        off = np.clip(before / steps - middle, -0.5, 0.5)
        near = middle + np.float32(_TOWARDS_EXACT) * off
        return replace(layer, weight=(near * steps).astype(np.float32))

    whole = _rewritten(network, (*_LATER, _FEWER_TOKENS))
    learning = _in_place_of(whole, map_linears(quantized.network, latent))
    unrounded = _in_place_of(whole, quantized.exact)
    rounded = inner.intersection(weights) if precision is Precision.INT8 else frozenset()
    return GridStart(learning, unrounded, scales, bits, frozenset(rounded))


def _rewritten(network: Network, without: Collection[str]) -> Network:
    """The network after the rewrites that conversion cannot make of weights on their grid.

    Factors on the attention scores become powers of two, which it can.
    """
    folded = fold(network, kept=lambda factor: 2.0 ** round(math.log2(abs(factor))))
    return apply_rewrites(folded, without=without)[0]


def _in_place_of(whole: Network, made: Network) -> Network:
    """The whole network with the arrays of one that computes fewer tokens of it.

    It is ``made`` itself where it does not have the very same arrays by name.
    """
    found, places = (
        {value.name: value for value in each.values if array_parts(value.operator)}
        for each in (made, whole)
    )
    if found.keys() != places.keys():
        return made
    return with_operators(whole, {places[name]: found[name].operator for name in found})


def _nearest(weight: Array, bits: int) -> IntegerWeight:
    """The integers of a layer that stays float in the artefact: weights on the grid are floats."""
    low, high = INTEGER_LIMITS[bits]
    scale = half_precision(searched_scale(weight, high, lowest=low))
    values = np.clip(np.rint(weight / scale), low, high).astype(np.int8)
    return IntegerWeight(values, scale, bits=bits)
