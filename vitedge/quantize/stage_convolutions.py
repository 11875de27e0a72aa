"""Makes integers of convolutions before attention where that saves enough time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitedge.network.network import Network, with_operators
from vitedge.quantize import Activations, IntegerWeight, Recipe
from vitedge.quantize.convolutions import rounded_convolutions
from vitedge.quantize.float_layers import FLOOR_DB
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.shared import Images
from vitedge.quantize.trial import Trial
from vitedge.quantize.worth import WORTHWHILE_DB, decibels, time_of


def worthwhile_convolutions(
    exact: Network,
    rounded: Network,
    recipe: Recipe,
    names: Sequence[str],
    statistics: Statistics,
    images: Images,
    activations: Activations,
) -> tuple[Network, dict[str, IntegerWeight]]:
    """Integers of the convolutions that save enough time for what they cost the outputs.

    They are worth half a decibel for each percent of the time that they take, less what the outputs
    lose. The first ones stay float where the others alone are worth more, or where all together
    would leave the outputs below ``FLOOR_DB``: what they lose passes through all blocks.

    Args:
        exact: The network before its weights were rounded.
        rounded: The network that the recipe is for.
        recipe: Integers of all other layers, and the ranges of the images that have one.
        names: Convolutions that are faster in integers, in the order of computation.
        statistics: The statistics of ``exact``.
        images: The images that the statistics are of.
        activations: The runtime's treatment of inputs.

    Returns:
        The network with the biases that make up for the integers, and the integers.
    """
    trial = Trial(exact, images, activations)

    def error(network: Network, integers: dict[str, IntegerWeight]) -> float:
        return trial.error(network, replace(recipe, weights={**recipe.weights, **integers}))

    before = error(rounded, {})
    most = trial.signal / 10 ** (FLOOR_DB / 10)
    all_rounded, found = rounded_convolutions(rounded, names, statistics)
    originals = {value.name: value.operator for value in rounded.values}
    times = {value.name: time_of(value) for value in rounded.values}
    all_time = sum(times.values())
    best, taken = 0.0, (rounded, dict[str, IntegerWeight]())
    for first in range(len(names)):
        worth_db = WORTHWHILE_DB * sum(times[name] for name in names[first:]) / all_time
        if worth_db <= best:
            break  # those that are left cannot be worth more
        left_out = names[:first]
        changes = {
            value: originals[value.name] for value in all_rounded.values if value.name in left_out
        }
        network = with_operators(all_rounded, changes)
        integers = {name: each for name, each in found.items() if name not in left_out}
        after = error(network, integers)
        worth_db -= decibels(after, before)
        if after <= most and worth_db > best:
            best, taken = worth_db, (network, integers)
    return taken
