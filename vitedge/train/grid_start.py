"""Where quantization-aware training starts: from what the quantizer itself would write to TFLite.

Which layers become integers, which weights share a scale, and how far integers reach is asked of
``vitedge.quantize``, so that what learns is what converts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.quantize import Activations, IntegerWeight, of_each_weight
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.layers import map_linears
from vitedge.quantize.recipe import quantize
from vitedge.quantize.weights import half_precision, searched_scale
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.fold_attention_scale import fold
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS
from vitedge.spec import Precision
from vitedge.vit import Array, Linear, ViT

# Both make small numbers of weights that learn at the rate of all others. Conversion does them.
_LATER = ("fold-input-normalization", "fold-attention-scale")

# How far a latent weight is from its integer, as a share of what the exact weight is, which counts
# as no further than half a step. On the border between two integers it would fall to either side.
_TOWARDS_EXACT = 0.5


@dataclass(frozen=True, eq=False)
class GridStart:
    """A model that is about to learn on an integer grid.

    Attributes:
        vit: The latent weights, which round to the quantizer's integers; all else is the model's,
            in another basis.
        exact: The model before any rounding in the very same basis, block by block.
        scales: Of every linear layer of a block, float32 ``(groups, outputs)``, each a number of
            half precision.
        bits: 8 or 4.
        rounded_inputs: The layers whose input is made of 8-bit integers, too.
    """

    vit: ViT
    exact: ViT
    scales: Mapping[str, Array]
    bits: int
    rounded_inputs: frozenset[str]


def grid_start(
    vit: ViT, images: Iterable[npt.NDArray[np.uint8]], precision: Precision
) -> GridStart:
    """Rewrites and quantizes a model, and keeps the weights from before the rounding beside it.

    Args:
        vit: The float model; left unchanged.
        images: Pixels to calibrate on, uint8 ``(H, W, C)``.
        precision: int8 or int4.

    Raises:
        DataError: There is no image, or one has another shape or dtype.
    """
    bits = 4 if precision is Precision.INT4 else 8
    rewritten = _rewritten(vit)
    # Per token, as XNNPACK does it; see docs/decisions/0022.
    quantized = quantize(
        rewritten, precision, calibrate(rewritten, images), activations=Activations.PER_TOKEN
    )
    weights = quantized.recipe.weights
    exact = dict(quantized.exact.named_linears())
    scales: dict[str, Array] = {}

    def latent(name: str, layer: Linear) -> Linear:
        if not name.startswith("blocks."):
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

    # All tokens are there in training, though the head reads few of them.
    every = vit.config.pooled_queries_only
    learning, unrounded = (
        replace(each, config=replace(each.config, pooled_queries_only=every))
        for each in (map_linears(quantized.vit, latent), quantized.exact)
    )
    rounded = frozenset(weights) if precision is Precision.INT8 else frozenset()
    return GridStart(learning, unrounded, scales, bits, rounded)


def _rewritten(vit: ViT) -> ViT:
    """Behind all rewrites that conversion cannot make once the weights are on their grid.

    The attention scale becomes a power of two, which it can.
    """
    power = 2.0 ** round(math.log2(vit.config.attention_scale))
    return apply_rewrites(fold(vit, kept=power), without=_LATER)[0]


def _nearest(weight: Array, bits: int) -> IntegerWeight:
    """Of a layer that stays float in the artefact: any weight on the grid is a float, too."""
    low, high = INTEGER_LIMITS[bits]
    scale = half_precision(searched_scale(weight, high, lowest=low))
    values = np.clip(np.rint(weight / scale), low, high).astype(np.int8)
    return IntegerWeight(values, scale, bits=bits)
