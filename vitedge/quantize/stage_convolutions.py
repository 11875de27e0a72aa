"""Makes integers of convolutions between stages, as far as the outputs bear them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.quantize import Activations, IntegerWeight, Recipe
from vitedge.quantize.coarse import FLOOR_DB
from vitedge.quantize.convolutions import rounded_convolutions
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.shared import Images
from vitedge.quantize.simulate import simulate_outputs

# All of them together may make as much error as the integers of all other layers: 3 dB.
_SHARE_OF_OTHERS = 1.0

# Images of the simulation, which is repeated for each convolution that is left out.
_IMAGES = 4


def bearable_convolutions(
    exact: Network,
    rounded: Network,
    recipe: Recipe,
    names: Sequence[str],
    statistics: Statistics,
    images: Images,
    activations: Activations,
) -> tuple[Network, dict[str, IntegerWeight]]:
    """Integers of as many convolutions as double the error of the outputs at most.

    The first ones stay float where all are too many: what they lose passes through all blocks.

    Args:
        exact: The network before its weights were rounded.
        rounded: The network that the recipe is for.
        recipe: Integers of all other layers.
        names: Convolutions that are faster in integers, in the order of computation.
        statistics: The statistics of ``exact``.
        images: The images that the statistics are of.
        activations: The runtime's treatment of inputs.

    Returns:
        The network with the biases that make up for the integers, and the integers.
    """
    shown = np.stack([*itertools.islice(images(), _IMAGES)])
    wanted = evaluate(exact, shown)
    signal = sum(_energy(each) for each in wanted.values())

    def error(network: Network, integers: dict[str, IntegerWeight]) -> float:
        tried = replace(recipe, weights={**recipe.weights, **integers})
        found = simulate_outputs(network, tried, shown, activations=activations)
        return sum(_energy(found[name] - each) for name, each in wanted.items())

    most = error(rounded, {}) * (1 + _SHARE_OF_OTHERS)
    most = min(most, signal / 10 ** (FLOOR_DB / 10))
    for first in range(len(names)):
        network, integers = rounded_convolutions(rounded, names[first:], statistics)
        if error(network, integers) <= most:
            return network, integers
    return rounded, {}


def _energy(x: Array) -> float:
    return float(np.square(x, dtype=np.float64).sum())
