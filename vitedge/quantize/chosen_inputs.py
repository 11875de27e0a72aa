"""Chooses the rounding of each integer layer's input: its range, and whether tokens are scaled.

Scaling tokens one by one is finer and takes time. Where most of the time goes into images of many
places and few channels, as between convolutions, that can be a tenth of it without effect. Where a
runtime says what scaling costs, an input is scaled only if the outputs gain enough for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from vitedge.network.channels_first import images_of_convolutions
from vitedge.network.network import Network, Value
from vitedge.network.operators import Pixels, Standardize
from vitedge.network.structure import reads_raw_pixels, source_of
from vitedge.quantize import Activations, Range
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.plan import Plan
from vitedge.quantize.ranges import (
    input_error,
    range_between,
    searched_range,
    token_scaled_range,
)
from vitedge.quantize.widths import FEW_TOKENS
from vitedge.quantize.worth import WORTHWHILE_DB, decibels, time_of

# A photo's pixels are integers already: uint8 holds them without any error.
PIXELS = Range(0.0, 255.0)

# The same as 16-bit integers, in steps of 1/128, which hold a pixel exactly too.
_WIDE_PIXELS = Range.symmetric(32767 / 128, 16)

# What 16-bit inputs cover beyond what calibration saw; one bit of sixteen is cheap.
_HEADROOM = 2.0


@dataclass(frozen=True)
class ChosenInput:
    """The rounding of one input.

    Attributes:
        covered: Its range; None if the runtime finds one when it runs.
        floor: Least divisor of a token, if each is divided by its largest number.
        error: Expected squared error of one image's outputs; None if calibration cannot tell.
    """

    covered: Range | None
    floor: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class _Finer:
    """Another way to round an input.

    Attributes:
        now: The way that it takes the place of.
        then: The finer one.
        cost: Its share of the time of all layers.
    """

    now: ChosenInput
    then: ChosenInput
    cost: float

    @property
    def gain(self) -> float:
        """The squared error that it saves."""
        assert self.now.error is not None
        assert self.then.error is not None
        return self.now.error - self.then.error


def chosen_inputs(
    network: Network, statistics: Statistics, plan: Plan
) -> Mapping[InputStatistics, ChosenInput]:
    """The way in which the input of every integer layer is rounded.

    Args:
        network: The network after all moves.
        statistics: The statistics of that network.
        plan: The integers that each layer gets.
    """
    layers: dict[InputStatistics, list[Value]] = {}
    for value, _ in network.linears():
        if value.name not in plan.floats:
            layers.setdefault(statistics.inputs[value.name], []).append(value)
    found = {watched: _plain(each[0], watched, plan) for watched, each in layers.items()}
    time = sum(map(time_of, network.values))
    outputs = _outputs_by_input(network, statistics)
    # A runtime turns them for a layer whose tokens are scaled, and back behind it.
    turned = images_of_convolutions(network, lambda _: True)
    finer = {}
    for watched, now in found.items():
        then = _finer(now, watched, outputs[watched], statistics, plan)
        if then is not None:
            numbers = watched.tokens * (len(watched.mean) + outputs[watched])
            if not turned.isdisjoint(layers[watched]):
                numbers *= 2
            finer[watched] = _Finer(now, then, plan.break_even.of_scaling * numbers / time)
    others = sum(each.error or 0.0 for watched, each in found.items() if watched not in finer)
    taken = _worthwhile(finer.values(), others)
    return found | {watched: each.then for watched, each in finer.items() if each in taken}


def ranges_of_images(
    network: Network, names: Collection[str], statistics: Statistics
) -> dict[str, Range]:
    """The fixed ranges of the images that convolutions read, by the names of these."""

    def covered(convolution: Value) -> Range:
        match source_of(convolution.inputs[0]).operator:
            case Pixels():
                return PIXELS
            case Standardize(mean=mean, std=std):
                pairs = list(zip(mean, std, strict=True))
                return range_between(
                    min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)
                )
            case _:
                return range_between(*statistics.extremes[convolution.name])

    return {value.name: covered(value) for value in network.values if value.name in names}


def _worthwhile(finer: Iterable[_Finer], others: float) -> list[_Finer]:
    """Those that together gain most above half a decibel for each percent of the time.

    Args:
        finer: All that could be taken.
        others: The error of all other inputs.
    """
    ordered = sorted(finer, key=lambda each: each.cost / each.gain)
    # Weights make about as much error as inputs that are rounded finely.
    rest = 2 * (others + sum(each.then.error or 0.0 for each in ordered))
    before = rest + sum(each.gain for each in ordered)
    error, cost, most, taken = before, 0.0, 0.0, 0
    for count, each in enumerate(ordered, 1):
        error -= each.gain
        cost += each.cost
        worth = decibels(before, error) - WORTHWHILE_DB * cost
        if worth > most:
            most, taken = worth, count
    return ordered[:taken]


def _plain(layer: Value, watched: InputStatistics, plan: Plan) -> ChosenInput:
    """The input of a layer, as it is rounded at no cost of time."""
    is_wide = layer.name in plan.wide
    if reads_raw_pixels(layer):
        return ChosenInput(_WIDE_PIXELS if is_wide else PIXELS)
    if is_wide:
        largest = float(max(watched.high.max(), -watched.low.min())) or 1.0
        return ChosenInput(Range.symmetric(largest * _HEADROOM, 16))
    activations = plan.activations
    if activations is Activations.STATIC_OR_TOKEN_SCALED and watched.tokens <= FEW_TOKENS:
        # Calibration sees too few of them to know how large those of other images are.
        activations = Activations.PER_TOKEN
    if activations in (Activations.STATIC, Activations.STATIC_OR_TOKEN_SCALED):
        covered, error = searched_range(watched)
    else:
        covered, error = None, input_error(watched, activations)
    return ChosenInput(covered, error=error if len(watched.rows) else None)


def _finer(
    now: ChosenInput,
    watched: InputStatistics,
    outputs: int,
    statistics: Statistics,
    plan: Plan,
) -> ChosenInput | None:
    """The finer way, where the runtime has one and what it saves counts."""
    below_db = plan.costly_below_db
    is_static = plan.activations is Activations.STATIC_OR_TOKEN_SCALED
    has_one = (is_static and now.covered is not None) or plan.activations is Activations.PER_TENSOR
    if now.error is None or below_db is None or not has_one:
        return None
    if statistics.sqnr_db(now.error) >= below_db:
        return None
    if plan.break_even.divides_tokens(len(watched.mean), outputs):
        then = ChosenInput(*token_scaled_range(watched))
    else:
        then = ChosenInput(None, error=input_error(watched, Activations.PER_TOKEN))
    assert then.error is not None
    return then if then.error < now.error / 2 else None


def _outputs_by_input(network: Network, statistics: Statistics) -> dict[InputStatistics, int]:
    """The outputs of all layers that share an input."""
    outputs: dict[InputStatistics, int] = {}
    for name, layer in network.named_linears():
        watched = statistics.inputs[name]
        outputs[watched] = outputs.get(watched, 0) + layer.weight.shape[1]
    return outputs
