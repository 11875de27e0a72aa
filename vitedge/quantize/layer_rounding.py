"""The integers of each layer's weights, and of what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.quantize import IntegerWeight, Range, Recipe
from vitedge.quantize.chosen_inputs import chosen_inputs
from vitedge.quantize.cores import all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.plan import Plan
from vitedge.quantize.rounding import (
    Feedback,
    feedback,
    importance_of_inputs,
    output_hessian,
    refitted,
    round_with_feedback,
)
from vitedge.quantize.shared import Shared
from vitedge.quantize.weights import searched_groups, searched_scale
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS, learnt_integers


class Rounding:
    """Integers for every layer, and the biases that make up for them.

    Args:
        network: The network after all moves; left unchanged.
        statistics: The statistics of that network.
        plan: The integers that each layer gets.
        shared: The results of earlier roundings of the same network.
    """

    def __init__(
        self, network: Network, statistics: Statistics, plan: Plan, shared: Shared
    ) -> None:
        self._network, self._statistics = network, statistics
        self._plan, self._shared = plan, shared
        self._chosen = chosen_inputs(network, statistics, plan)
        self._token_scaled: dict[str, float] = {}
        self._weights: dict[str, IntegerWeight] = {}
        self._inputs: dict[str, Range] = {}
        self._predicted: dict[str, float] = {}
        self._input: InputStatistics | None = None
        self._feedback: Feedback | None = None

    def result(self, description: Mapping[str, str]) -> tuple[Network, Recipe]:
        """Rounds layer by layer.

        Args:
            description: The rounding in words per kind of layer.

        Returns:
            The network with its biases corrected, and the recipe with its integers.
        """
        with all_cores() as cores:
            # What takes longest is done for the next layers meanwhile.
            self._feedbacks = cores.ahead(_feedback, self._distinct_inputs())
            network = map_linears(self._network, self._rounded)
        if self._token_scaled:
            names = ", ".join(self._token_scaled)
            description = {**description, "scaled token by token": names}
        recipe = Recipe(
            self._plan.precision,
            weights=self._weights,
            inputs=self._inputs,
            token_scaled=self._token_scaled,
            description=description,
            predicted_sqnr_db=self._predicted,
        )
        return network, recipe

    def _rounded(self, name: str, layer: Linear) -> Linear:
        if name in self._plan.floats:
            return layer
        watched = self._statistics.inputs[name]
        if self._input is not watched:
            # Layers may share an input, so what depends on it alone is computed once.
            self._input, self._feedback = watched, None
            error = self._chosen[watched].error
            if error is not None:
                self._predicted[name] = self._statistics.sqnr_db(error)
        chosen = self._chosen[watched]
        if chosen.covered is not None:
            self._inputs[name] = chosen.covered
        if chosen.floor is not None:
            self._token_scaled[name] = chosen.floor
        weight = self._weights[name] = self._integers(layer, watched)
        missing = watched.mean @ (layer.weight - weight.dequantized())
        return replace(layer, bias=(layer.bias + missing).astype(np.float32))

    def _distinct_inputs(self) -> Iterator[InputStatistics]:
        """The inputs of the layers still to be rounded, in order; neighbours may share one."""
        last, is_given = None, False
        for name, layer in self._network.named_linears():
            if name in self._plan.floats:
                continue
            watched = self._statistics.inputs[name]
            if watched is not last:
                last, is_given = watched, False
            if not is_given and self._known(layer, watched) is None:
                is_given = True
                yield watched

    def _integers(self, layer: Linear, watched: InputStatistics) -> IntegerWeight:
        known = self._known(layer, watched)
        if known is None:
            while self._feedback is None:
                of, found = next(self._feedbacks)
                # Another layer's integers may have come to be known in the meantime.
                self._feedback = found if of is watched else None
            known = self._on_a_grid(layer, self._feedback)
            bits, groups = self._plan.precision.row.weight_bits, self._plan.groups
            self._shared.keep(layer.weight, watched, bits, groups, known)
        return known

    def _known(self, layer: Linear, watched: InputStatistics) -> IntegerWeight | None:
        bits, groups = self._plan.precision.row.weight_bits, self._plan.groups
        return self._shared.integers(layer.weight, watched, bits, groups)

    def _on_a_grid(self, layer: Linear, known: Feedback) -> IntegerWeight:
        bits = self._plan.precision.row.weight_bits
        learnt = learnt_integers(layer.weight, bits) if self._plan.learnt else None
        if learnt is not None:
            values, learnt_scale = learnt
            return IntegerWeight(values, learnt_scale if bits == 4 else learnt_scale[0], bits=bits)
        limits, groups = INTEGER_LIMITS[bits], self._plan.groups
        if groups is None:
            scale = searched_scale(layer.weight, limits[1])
            integers = round_with_feedback(layer.weight, known, scale, bits=bits)
            return IntegerWeight(integers, scale)  # in bytes, however few of their bits it takes
        scale, zero = searched_groups(layer.weight, limits, importance_of_inputs(known), groups)
        integers = round_with_feedback(layer.weight, known, scale, zero, bits=bits)
        return refitted(IntegerWeight(integers, scale, bits, zero), layer.weight, known)


def _feedback(watched: InputStatistics) -> tuple[InputStatistics, Feedback]:
    return watched, feedback(output_hessian(watched))
