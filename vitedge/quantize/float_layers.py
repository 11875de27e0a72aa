"""Finds the layers that stay float because integers there cost too much accuracy.

Some networks multiply what is rounded: a layer in front loses the outputs as much as all layers of
a plain vision transformer together. A few layers then make nearly all of the error. In others a
layer that does little of the work makes much of the error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitedge.artifacts.metadata import (
    FLOAT32_FOR_ACCURACY,
    FLOAT_FOR_ACCURACY,
    FLOAT_OF_LITTLE_WORK,
)
from vitedge.network.network import Network, Value, map_linears
from vitedge.network.operators import Linear
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.halving import fewest
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.shared import Images
from vitedge.quantize.trial import Trial, energy
from vitedge.quantize.worth import WORTHWHILE_DB, decibels, time_of

FLOOR_DB = 20.0
"""Least signal-to-noise ratio of the outputs, as simulated on calibration images."""

_MOST_WORK = 0.1
"""Largest share of the time of integer layers that are made float for that."""

_LEAST_ERROR = 1e-30


@dataclass(frozen=True)
class LeftInFloat:
    """Names of linear layers that stay float.

    Attributes:
        too_coarse: Layers whose integers would leave the outputs below ``FLOOR_DB``; usually none.
        little_work: Layers that make much of the error and do little of the work.
        in_bfloat16_db: The signal-to-noise ratio that bfloat16 alone would leave the outputs, where
            that is below ``FLOOR_DB``; None where it is not, or where no layer is too coarse.
    """

    too_coarse: frozenset[str]
    little_work: frozenset[str]
    in_bfloat16_db: float | None = None

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.too_coarse | self.little_work

    @property
    def words(self) -> dict[str, str]:
        """The words of an artefact's description."""
        words = {FLOAT_FOR_ACCURACY: self.too_coarse, FLOAT_OF_LITTLE_WORK: self.little_work}
        found = {word: ", ".join(sorted(names)) for word, names in words.items() if names}
        if self.in_bfloat16_db is not None:
            found[FLOAT32_FOR_ACCURACY] = f"bfloat16 alone would leave {self.in_bfloat16_db:.0f} dB"
        return found


@dataclass(frozen=True)
class _Group:
    """Integer layers that share an input, which is rounded once for all of them.

    Attributes:
        layers: Their names.
        error: Expected squared error of one image's outputs by their integers alone.
        time: Their time for one image, in multiplications; see ``time_of``.
    """

    layers: tuple[str, ...]
    error: float
    time: int


def layers_left_in_float(
    exact: Network,
    rounded: Network,
    recipe: Recipe,
    statistics: Statistics,
    images: Images,
    activations: Activations,
) -> LeftInFloat:
    """The layers whose integers cost too much accuracy.

    Layers are taken by the error that they make for their time, the largest first: as many as the
    simulated artefact needs to keep ``FLOOR_DB``, then each that gains half a decibel for each
    percent of the time. The artefact is simulated only where the errors of all
    layers, as calibration predicts them, add up to more than the floor allows.

    Args:
        exact: The network before its weights were rounded.
        rounded: The network that the recipe is for.
        recipe: Integers with float operators between them.
        statistics: The statistics of ``exact``.
        images: The images that the statistics are of.
        activations: The treatment of inputs that the recipe was made for.
    """
    groups = _groups(exact, recipe, statistics)
    groups.sort(key=lambda each: each.error / each.time, reverse=True)
    needed, in_bfloat16_db = 0, None
    if statistics.sqnr_db(sum(each.error for each in groups)) < FLOOR_DB:
        simulated = _Simulated(exact, rounded, recipe, images, activations)
        needed, reached = _fewest(groups, simulated), simulated.in_bfloat16_db()
        in_bfloat16_db = reached if needed and reached < FLOOR_DB else None
    enough = needed + _worthwhile(groups[needed:])
    return LeftInFloat(_names(groups[:needed]), _names(groups[needed:enough]), in_bfloat16_db)


def _names(groups: Sequence[_Group]) -> frozenset[str]:
    return frozenset(name for each in groups for name in each.layers)


def _worthwhile(groups: Sequence[_Group]) -> int:
    """The number of groups, from the first on, that gain enough for their time."""
    error, time = (sum(getattr(each, name) for each in groups) for name in ("error", "time"))
    taken = 0.0
    for count, each in enumerate(groups):
        share, rest = each.time / time, error - each.error
        taken += share
        if taken > _MOST_WORK or decibels(error, rest) < WORTHWHILE_DB * share:
            return count
        error = rest
    return len(groups)


def _fewest(groups: Sequence[_Group], simulated: _Simulated) -> int:
    """The number of groups, from the first on, whose floats keep the floor."""

    def is_enough(count: int) -> bool:
        return simulated.sqnr_db(_names(groups[:count])) >= FLOOR_DB

    return 0 if is_enough(0) else fewest(len(groups), is_enough)


class _Simulated:
    """The artefact with some of its layers in float, on a few of the calibration images."""

    def __init__(
        self,
        exact: Network,
        rounded: Network,
        recipe: Recipe,
        images: Images,
        activations: Activations,
    ) -> None:
        self._layers: Mapping[str, Linear] = dict(exact.named_linears())
        self._rounded, self._recipe = rounded, recipe
        self._trial = Trial(exact, images, activations)

    def in_bfloat16_db(self) -> float:
        """The signal-to-noise ratio of the outputs of the float network in bfloat16."""
        return decibels(self._trial.signal, self._trial.error_in_bfloat16())

    def sqnr_db(self, floats: Collection[str]) -> float:
        """The signal-to-noise ratio of the outputs if these layers are float."""

        def chosen(name: str, layer: Linear) -> Linear:
            return self._layers[name] if name in floats else layer

        integers = {name: each for name, each in self._recipe.weights.items() if name not in floats}
        recipe = replace(self._recipe, weights=integers)
        network = map_linears(self._rounded, chosen)
        return decibels(self._trial.signal, self._trial.error(network, recipe))


def _groups(exact: Network, recipe: Recipe, statistics: Statistics) -> list[_Group]:
    """The integer layers by their input; without those whose errors calibration cannot tell."""
    by_input: dict[Value, list[Value]] = {}
    for value, _ in exact.linears():
        if value.name in recipe.weights:
            by_input.setdefault(value.inputs[0], []).append(value)
    found = []
    for layers in by_input.values():
        names = tuple(each.name for each in layers)
        watched = statistics.inputs[names[0]]
        if names[0] not in recipe.predicted_sqnr_db:
            continue
        of_input = statistics.logit_energy / 10 ** (recipe.predicted_sqnr_db[names[0]] / 10)
        error = of_input + _error_of_weights(layers, recipe, watched)
        found.append(_Group(names, error, sum(map(time_of, layers))))
    return found


def _error_of_weights(layers: Sequence[Value], recipe: Recipe, watched: InputStatistics) -> float:
    """Expected squared error of one image's outputs if the weights of these layers are rounded.

    Gradients are known at the input. What they are at each layer's output is taken to be the same
    for all of them: an error of the layer's output then counts as much as an error of the input
    that changes the output by as much.
    """
    moments = watched.moments - np.outer(watched.mean, watched.mean)  # biases make up for the mean
    noise = weights = 0.0
    for each in layers:
        assert isinstance(each.operator, Linear)
        missing = each.operator.weight - recipe.weights[each.name].dequantized()
        noise += float((missing * (moments @ missing)).sum())
        weights += energy(each.operator.weight)
    slope = float(watched.counts @ np.square(watched.gradients).sum(axis=1))
    return slope * max(noise, 0.0) / max(weights, _LEAST_ERROR)
