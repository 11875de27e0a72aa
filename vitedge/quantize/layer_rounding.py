"""The integers of each layer's weights, and of what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.quantize.cores import all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.plan import Plan, reads_raw_pixels
from vitedge.quantize.ranges import input_error, searched_range, token_scaled_range
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

# A photo's pixels are integers already: uint8 holds them without any error.
PIXELS = Range(0.0, 255.0)

# The same as 16-bit integers, in steps of 1/128, which hold a pixel exactly too.
_WIDE_PIXELS = Range.symmetric(32767 / 128, 16)

# What 16-bit inputs cover beyond what calibration saw; one bit of sixteen is cheap.
_HEADROOM = 2.0


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
        self._of_pixels = {each.name for each, _ in network.linears() if reads_raw_pixels(each)}
        self._outputs = _outputs_by_input(network, statistics)
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
            self._range, self._floor = self._choose_input(name, watched)
        if self._range is not None:
            self._inputs[name] = self._range
        if self._floor is not None:
            self._token_scaled[name] = self._floor
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

    def _finer(self, watched: InputStatistics) -> tuple[Range | None, float | None, float] | None:
        """Range, floor and error of a finer quantization, where the runtime has one."""
        match self._plan.activations:
            case Activations.PER_TENSOR | Activations.STATIC_OR_TOKEN_SCALED:
                inputs, outputs = len(watched.mean), self._outputs[watched]
                if self._plan.break_even.divides_tokens(inputs, outputs):
                    return token_scaled_range(watched)
                return None, None, input_error(watched, Activations.PER_TOKEN)
            case _:
                return None

    def _choose_input(
        self, name: str, watched: InputStatistics
    ) -> tuple[Range | None, float | None]:
        """Range and floor of the layer's input, where it has them."""
        plan = self._plan
        if name in self._of_pixels:
            return _WIDE_PIXELS if name in plan.wide else PIXELS, None
        if name in plan.wide:
            largest = float(max(watched.high.max(), -watched.low.min())) or 1.0
            return Range.symmetric(largest * _HEADROOM, 16), None
        covered, floor = None, None
        if plan.activations in (Activations.STATIC, Activations.STATIC_OR_TOKEN_SCALED):
            covered, error = searched_range(watched)
        else:
            error = input_error(watched, plan.activations)
        below_db = plan.costly_below_db
        if below_db is not None and self._statistics.sqnr_db(error) < below_db:
            finer = self._finer(watched)
            if finer is not None and finer[2] < error / 2:
                covered, floor, error = finer
        if len(watched.rows):
            self._predicted[name] = self._statistics.sqnr_db(error)
        return covered, floor


def _outputs_by_input(network: Network, statistics: Statistics) -> dict[InputStatistics, int]:
    """The outputs of all layers that share an input."""
    outputs: dict[InputStatistics, int] = {}
    for name, layer in network.named_linears():
        watched = statistics.inputs[name]
        outputs[watched] = outputs.get(watched, 0) + layer.weight.shape[1]
    return outputs


def _feedback(watched: InputStatistics) -> tuple[InputStatistics, Feedback]:
    return watched, feedback(output_hessian(watched))
