"""From a network and its statistics to a recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError, UsageError
from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.quantize.cores import all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.integer_tensors import tensor_ranges
from vitedge.quantize.moves import Moved, move_difficulty
from vitedge.quantize.plan import (
    Plan,
    description_of,
    has_narrow_products,
    liftable,
    plan_of,
    reads_raw_pixels,
)
from vitedge.quantize.ranges import (
    input_error,
    searched_range,
    token_scaled_range,
)
from vitedge.quantize.rounding import (
    Feedback,
    feedback,
    importance_of_inputs,
    output_hessian,
    refitted,
    round_with_feedback,
)
from vitedge.quantize.shared import Shared
from vitedge.quantize.simulate import with_integer_weights
from vitedge.quantize.weights import searched_groups, searched_scale
from vitedge.quantize.widths import require_integers
from vitedge.rewrite import BALANCE
from vitedge.rewrite.learnt_grid import (
    COMMON_GROUPS,
    INTEGER_LIMITS,
    Groups,
    learnt_bits,
    learnt_integers,
)
from vitedge.targets.precisions import Precision

# A photo's pixels are integers already: uint8 holds them without any error.
PIXELS = Range(0.0, 255.0)

# The same as 16-bit integers, in steps of 1/128, which hold a pixel exactly too.
_WIDE_PIXELS = Range.symmetric(32767 / 128, 16)

# What 16-bit inputs cover beyond what calibration saw; one bit of sixteen is cheap.
_HEADROOM = 2.0

# Predicted from calibration; a third of DeiT-tiny's inputs lie below. Finer quantization of those
# gains 3 dB of logits for 4 % of time, of the others hardly anything.
COSTLY_DB = 44.0

Images = Callable[[], Iterable[npt.NDArray[np.uint8]]]
"""Gives the calibration pixels once more, each uint8 ``(H, W, C)``."""


@dataclass(frozen=True)
class Quantized:
    """A recipe, and the network that it is for.

    Attributes:
        network: Computes the same as the network that was given, to float32 rounding, but for
            biases, which make up for the mean error of the weights.
        recipe: Its integers.
        exact: The network just before its weights were rounded.
        moves: Names of the measured moves that changed something, in order.
    """

    network: Network
    recipe: Recipe
    exact: Network
    moves: tuple[str, ...] = ()


def quantize(
    network: Network,
    precision: Precision,
    statistics: Statistics | None = None,
    *,
    activations: Activations = Activations.STATIC,
    keep_float: Collection[str] = (),
    costly_below_db: float | None = COSTLY_DB,
    images: Images | None = None,
    shared: Shared | None = None,
    without: Collection[str] = (),
    groups: Groups | None = None,
) -> Quantized:
    """Chooses the numbers of an artefact.

    Args:
        network: The model, already rewritten; left unchanged.
        precision: fp32 and fp16 have no integers; int8 quantizes every linear layer but those that
            see only one or two tokens of an image, int4 every one but the first and those of the
            head, the all-integer ones everything. In int8 and int4 convolutions stay float.
        statistics: Of this very network.
        activations: What the runtime does with the inputs of integer layers; all-integer
            precisions and int4 do not ask.
        keep_float: Names of linear layers that stay float; in int8-static their input and output
            have 16 bits (see ``liftable``).
        costly_below_db: Inputs whose quantization alone would leave the logits less signal-to-noise
            ratio are quantized more finely if that at least halves the error, at some cost of time:
            where activations are per tensor, they are scaled token by token
            (``Recipe.token_scaled``); where they are static or per token, they are per token. None
            for never; all other ``activations`` have no finer way.
        images: The images that the statistics are of; all-integer precisions look at them again.
        shared: Of earlier calls with the same network and statistics; saves what they did already.
        without: Exact moves to leave out, of ``vitedge.rewrite.MEASURED``.
        groups: Which 4-bit weights share a scale; None is as every format has them, and as those
            have them that learnt on a grid, whatever is asked for.

    Raises:
        UsageError: ``keep_float`` names no layer.
        ConversionError: The precision needs statistics or images and there are none, or it is
            all-integer and a value of the network cannot be.
    """
    if precision.is_float:
        words = {"linear layers": f"{precision} weights"}
        return Quantized(network, Recipe(precision, description=words), network)
    _check_kept(network, precision, keep_float)
    if statistics is None or (precision.all_integer and images is None):
        raise ConversionError(f"{precision} needs calibration images")
    if precision.all_integer:
        require_integers(network)
        activations = Activations.STATIC
    if precision.row.grouped:
        activations = Activations.PER_TOKEN
    shared = shared or Shared()
    bits = precision.row.weight_bits
    learnt = learnt_bits(network) == bits
    if learnt or groups is None:
        groups = COMMON_GROUPS
    if learnt:
        # Biases alone, so that inputs are what they were when the weights learnt.
        left_out = {*without, BALANCE}
        names = shared.moves(network, statistics, left_out)
        centred = shared.centred_and_balanced(network, statistics, left_out)
        moved = Moved(*centred, {}, names)
    else:
        # Only there are queries and keys rounded to 8 bits.
        rounds_queries = has_narrow_products(precision)
        moved = move_difficulty(
            network,
            statistics,
            activations,
            shared,
            rounds_queries=rounds_queries,
            without=without,
        )
    exact, statistics = moved.network, moved.statistics
    plan = plan_of(exact, precision, statistics, activations, frozenset(keep_float))
    plan = replace(
        plan,
        costly_below_db=costly_below_db,
        groups=groups if precision.row.grouped else None,
        learnt=learnt,
    )
    words = description_of(plan) | moved.description
    rounded = _Rounding(exact, statistics, plan, shared).result(words)
    rounded = replace(rounded, moves=moved.changed)
    if not precision.all_integer or images is None:
        return rounded
    recipe = rounded.recipe
    computed = with_integer_weights(rounded.network, recipe)
    narrow_bits = precision.row.activation_bits or 16
    tensors = tensor_ranges(
        computed, recipe.inputs, images(), narrow_bits=narrow_bits, wide=plan.wide
    )
    return replace(rounded, recipe=replace(recipe, tensors=tensors))


def _check_kept(network: Network, precision: Precision, keep_float: Collection[str]) -> None:
    known = dict(network.named_linears())
    can_be_lifted = liftable(network, precision)
    for name in keep_float:
        if name not in known:
            raise UsageError(f"there is no linear layer '{name}' to keep in float")
        if name not in can_be_lifted:
            raise UsageError(f"{precision} cannot keep '{name}' out of 8 bits")


class _Rounding:
    """Integers for every layer, and the biases that make up for them."""

    def __init__(
        self, network: Network, statistics: Statistics, plan: Plan, shared: Shared
    ) -> None:
        self._network, self._statistics = network, statistics
        self._plan, self._shared = plan, shared
        self._of_pixels = {each.name for each, _ in network.linears() if reads_raw_pixels(each)}
        self._token_scaled: dict[str, float] = {}
        self._weights: dict[str, IntegerWeight] = {}
        self._inputs: dict[str, Range] = {}
        self._predicted: dict[str, float] = {}
        self._input: InputStatistics | None = None
        self._feedback: Feedback | None = None

    def result(self, description: Mapping[str, str]) -> Quantized:
        """Rounds layer by layer."""
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
        return Quantized(network, recipe, self._network)

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
        last, is_given, groups = None, False, self._plan.groups
        for name, layer in self._network.named_linears():
            if name in self._plan.floats:
                continue
            watched = self._statistics.inputs[name]
            if watched is not last:
                last, is_given = watched, False
            if not is_given and self._shared.integers(layer.weight, watched, groups) is None:
                is_given = True
                yield watched

    def _integers(self, layer: Linear, watched: InputStatistics) -> IntegerWeight:
        groups = self._plan.groups
        known = self._shared.integers(layer.weight, watched, groups)
        if known is None:
            while self._feedback is None:
                of, found = next(self._feedbacks)
                # Another layer's integers may have come to be known in the meantime.
                self._feedback = found if of is watched else None
            known = self._on_a_grid(layer, self._feedback)
            self._shared.keep(layer.weight, watched, groups, known)
        return known

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
            case Activations.PER_TENSOR:
                return token_scaled_range(watched)
            case Activations.STATIC_OR_PER_TOKEN:
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
        if plan.activations in (Activations.STATIC, Activations.STATIC_OR_PER_TOKEN):
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


def _feedback(watched: InputStatistics) -> tuple[InputStatistics, Feedback]:
    return watched, feedback(output_hessian(watched))
