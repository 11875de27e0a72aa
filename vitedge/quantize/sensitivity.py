"""What quantizing each layer alone does to the logits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.quantize import Activations
from vitedge.quantize.layers import map_linears
from vitedge.quantize.recipe import Quantized, liftable
from vitedge.quantize.simulate import simulate
from vitedge.vit import Linear, forward

# No error at all is some 300 dB, not a division by zero.
_LEAST_ERROR = 1e-30


@dataclass(frozen=True)
class Sensitivity:
    """What a layer costs.

    Attributes:
        layer: Its name.
        sqnr_db: Signal-to-noise ratio of the logits when this layer alone is quantized.
    """

    layer: str
    sqnr_db: float


def rank_layers(
    quantized: Quantized, images: npt.NDArray[np.uint8], *, activations: Activations
) -> tuple[Sensitivity, ...]:
    """The integer layers that could stay out of 8 bits, the costliest first.

    Args:
        quantized: Of ``quantize``.
        images: Pixels ``(N, H, W, C)`` to try it on; a dozen rank a hundred layers.
        activations: As the recipe was made for.
    """
    recipe = quantized.recipe
    reference = forward(quantized.exact, images).astype(np.float64)
    energy = float(np.square(reference).sum())
    rounded = dict(quantized.vit.named_linears())
    found = []
    for name in recipe.weights:
        if not liftable(recipe.precision, name):
            continue

        def alone(layer: str, exact: Linear, name: str = name) -> Linear:
            return rounded[layer] if layer == name else exact

        only = replace(recipe, weights={name: recipe.weights[name]}, tensors={})
        logits = simulate(
            map_linears(quantized.exact, alone), only, images, activations=activations
        )
        error = max(float(np.square(logits - reference).sum()), _LEAST_ERROR)
        found.append(Sensitivity(name, float(10 * np.log10(energy / error))))
    return tuple(sorted(found, key=lambda each: each.sqnr_db))
