"""Measures how quantizing each layer alone changes the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import evaluate
from vitedge.network.network import map_linears
from vitedge.network.operators import Array, Linear
from vitedge.quantize import Activations
from vitedge.quantize.plan import liftable
from vitedge.quantize.recipe import Quantized
from vitedge.quantize.simulate import simulate_outputs

# No error at all is some 300 dB, not a division by zero.
_LEAST_ERROR = 1e-30


@dataclass(frozen=True)
class Sensitivity:
    """The cost of a layer.

    Attributes:
        layer: Its name.
        sqnr_db: Signal-to-noise ratio of the outputs when this layer alone is quantized.
    """

    layer: str
    sqnr_db: float


def rank_layers(
    quantized: Quantized, images: npt.NDArray[np.uint8], *, activations: Activations
) -> tuple[Sensitivity, ...]:
    """The integer layers that could stay out of 8 bits, the costliest first.

    Args:
        quantized: The result of ``quantize``.
        images: Pixels ``(N, H, W, C)`` to try it on; a dozen rank a hundred layers.
        activations: The treatment of inputs that the recipe was made for.
    """
    recipe = quantized.recipe
    reference = _as_one(evaluate(quantized.exact, images))
    energy = float(np.square(reference).sum())
    rounded = dict(quantized.network.named_linears())
    can_be_lifted = liftable(quantized.network, recipe.precision)
    found = []
    for name in recipe.weights:
        if name not in can_be_lifted:
            continue

        def alone(layer: str, exact: Linear, name: str = name) -> Linear:
            return rounded[layer] if layer == name else exact

        only = replace(recipe, weights={name: recipe.weights[name]}, tensors={})
        network = map_linears(quantized.exact, alone)
        outputs = _as_one(simulate_outputs(network, only, images, activations=activations))
        error = max(float(np.square(outputs - reference).sum()), _LEAST_ERROR)
        found.append(Sensitivity(name, float(10 * np.log10(energy / error))))
    return tuple(sorted(found, key=lambda each: each.sqnr_db))


def _as_one(outputs: Mapping[str, Array]) -> npt.NDArray[np.float64]:
    """All outputs ``(N, ...)`` of a model side by side."""
    flat = [each.reshape(len(each), -1).astype(np.float64) for each in outputs.values()]
    return np.concatenate(flat, axis=1)
