"""A recipe tried on a few calibration images, before there is an artefact."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Convolution, Linear, Operator
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.shared import Images
from vitedge.quantize.simulate import simulate_outputs

# A search repeats the simulation at each step.
_IMAGES = 4


class Trial:
    """The outputs that recipes are compared with.

    Args:
        exact: The network before its weights were rounded.
        images: The calibration images, of which the first are taken.
        activations: The runtime's treatment of inputs.

    Attributes:
        signal: The energy of the outputs of all images.
    """

    def __init__(self, exact: Network, images: Images, activations: Activations) -> None:
        self._images: npt.NDArray[np.uint8] = np.stack([*itertools.islice(images(), _IMAGES)])
        self._activations = activations
        self._exact, self._wanted = exact, evaluate(exact, self._images)
        self.signal = sum(energy(each) for each in self._wanted.values())

    def error(self, network: Network, recipe: Recipe) -> float:
        """The energy of what a recipe for ``network`` changes in the outputs of all images."""
        found = simulate_outputs(network, recipe, self._images, activations=self._activations)
        return self._error_of(found)

    def error_in_bfloat16(self) -> float:
        """The energy of what bfloat16 inputs and weights of all layers change in the outputs."""
        changed: dict[Value, Operator] = {
            value: replace(layer, weight=_in_bfloat16(layer.weight))
            for value in self._exact.values
            if isinstance(layer := value.operator, Linear | Convolution)
        }
        network = with_operators(self._exact, changed)

        def rounded(_: str, x: Array) -> Array:
            return _in_bfloat16(x)

        return self._error_of(evaluate(network, self._images, rounded, rounded))

    def _error_of(self, found: Mapping[str, Array]) -> float:
        return sum(energy(found[name] - each) for name, each in self._wanted.items())


def _in_bfloat16(x: Array) -> Array:
    """The nearest numbers whose last 16 bits are 0; of two that are as near, the even one."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    is_odd = bits >> np.uint32(16) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + is_odd) & np.uint32(0xFFFF0000)).view(np.float32)


def energy(x: Array) -> float:
    """The sum of all squares."""
    return float(np.square(x, dtype=np.float64).sum())
