"""A recipe tried on a few calibration images, before there is an artefact."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Array
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
        self._wanted = evaluate(exact, self._images)
        self.signal = sum(energy(each) for each in self._wanted.values())

    def error(self, network: Network, recipe: Recipe) -> float:
        """The energy of what a recipe for ``network`` changes in the outputs of all images."""
        found = simulate_outputs(network, recipe, self._images, activations=self._activations)
        return sum(energy(found[name] - each) for name, each in self._wanted.items())


def energy(x: Array) -> float:
    """The sum of all squares."""
    return float(np.square(x, dtype=np.float64).sum())
