"""Makes a recipe of a network and its statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError, UsageError
from vitedge.network.network import Network
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import INTEGERS_ALWAYS, BreakEven
from vitedge.quantize.chosen_inputs import ranges_of_images
from vitedge.quantize.convolutions import convolution_weights, rounded_convolutions
from vitedge.quantize.float_layers import layers_left_in_float
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.integer_tensors import tensor_ranges
from vitedge.quantize.layer_rounding import Rounding
from vitedge.quantize.moves import Moved, move_difficulty
from vitedge.quantize.plan import (
    CHOSEN,
    Plan,
    description_of,
    has_narrow_products,
    liftable,
    plan_of,
)
from vitedge.quantize.shared import Images, Shared
from vitedge.quantize.simulate import with_integer_weights
from vitedge.quantize.stage_convolutions import worthwhile_convolutions
from vitedge.quantize.widths import require_integers
from vitedge.rewrite import BALANCE
from vitedge.rewrite.learnt_grid import (
    COMMON_GROUPS,
    Groups,
    learnt_bits,
)
from vitedge.targets.precisions import Precision

# Predicted from calibration; a third of DeiT-tiny's inputs lie below. Finer quantization of those
# gains 3 dB of logits for 4 % of time, of the others hardly anything.
COSTLY_DB = 44.0


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
    break_even: BreakEven = INTEGERS_ALWAYS,
) -> Quantized:
    """Chooses the numbers of an artefact.

    Args:
        network: The model, already rewritten; left unchanged.
        precision: fp32 and fp16 have no integers; int8 quantizes every linear layer but those that
            see only one or two tokens of an image and are not large, int4 every one but the first
            and those of the head, the all-integer ones everything. In int8 and int4 convolutions
            stay float, but for those that ``break_even`` makes integers.
        statistics: The statistics of this very network.
        activations: The runtime's treatment of the inputs of integer layers; all-integer precisions
            and int4 ignore it.
        keep_float: Names of linear layers that stay float; in int8-static their input and output
            have 16 bits (see ``liftable``).
        costly_below_db: Inputs whose quantization alone would leave the logits less signal-to-noise
            ratio are quantized more finely if that at least halves the error, at some cost of time:
            where activations are per tensor, or static or token-scaled, they are scaled token by
            token (``Recipe.token_scaled``), or when the model runs if ``break_even`` says so. None
            for never; all other ``activations`` have no finer way.
        images: The images that the statistics are of; static ranges look at them again, where
            there are any, and int8 needs them to leave layers in float whose integers cost too much
            accuracy (see ``layers_left_in_float``). All-integer precisions need them.
        shared: The results of earlier calls with the same network and statistics, which are not
            computed again.
        without: Exact moves to leave out, of ``vitedge.rewrite.MEASURED``.
        groups: The weights of grouped precisions that share a scale; None is the grouping that
            every format has. Weights that learnt on a grid keep theirs, whatever is asked for.
        break_even: See ``Converter``; of int8 alone.

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
    learnt = learnt_bits(network) == precision.row.weight_bits
    if learnt:
        moved = _only_biases_moved(network, statistics, shared, without)
    else:
        # Only there are queries and keys rounded to 8 bits.
        narrow = has_narrow_products(precision)
        # Ranges of 16 bits have room beyond what was seen, so exact extremes clip no less there.
        is_static = activations in (Activations.STATIC, Activations.STATIC_OR_TOKEN_SCALED)
        are_exact = is_static and precision.row.activation_bits != 16
        moved = move_difficulty(
            network,
            statistics,
            activations,
            shared,
            rounds_queries=narrow,
            without=without,
            images=images if are_exact else None,
        )
    if precision.row.grouped:
        groups = COMMON_GROUPS if learnt or groups is None else groups
    else:
        groups = None

    def rounding(kept: Collection[str]) -> tuple[Plan, Network, Recipe]:
        plan = plan_of(
            moved.network,
            precision,
            moved.statistics,
            activations,
            frozenset(kept),
            break_even,
        )
        plan = replace(plan, costly_below_db=costly_below_db, groups=groups, learnt=learnt)
        words = description_of(plan) | moved.description
        made = Rounding(moved.network, moved.statistics, plan, shared).result(words)
        return plan, *made

    plan, rounded, recipe = rounding(keep_float)
    is_mixed = not precision.all_integer and not precision.row.grouped
    if is_mixed and images is not None and not learnt:
        left = layers_left_in_float(
            moved.network, rounded, recipe, moved.statistics, images, activations
        )
        if left.names:
            plan, rounded, recipe = rounding({*keep_float, *left.names})
            words = {**recipe.description, **left.words}
            recipe = replace(recipe, description=words)
    rounded, recipe = _with_convolutions(plan, moved, rounded, recipe, images)
    if precision.all_integer and images is not None:
        weights = {**recipe.weights, **convolution_weights(rounded)}
        recipe = replace(recipe, weights=weights)
        recipe = _with_tensors(recipe, rounded, images(), plan.wide)
    return Quantized(rounded, recipe, moved.network, moved.changed)


def _with_convolutions(
    plan: Plan, moved: Moved, rounded: Network, recipe: Recipe, images: Images | None
) -> tuple[Network, Recipe]:
    """Network and recipe with the integers of the convolutions that have some."""
    if plan.activations is Activations.STATIC_OR_TOKEN_SCALED:
        wanted = {*plan.convolutions, *plan.stage_convolutions}
        ranges = ranges_of_images(rounded, wanted, moved.statistics)
        recipe = replace(recipe, inputs={**recipe.inputs, **ranges})
    if plan.convolutions:
        rounded, found = rounded_convolutions(rounded, plan.convolutions, moved.statistics)
        recipe = replace(recipe, weights={**recipe.weights, **found})
    if plan.stage_convolutions and images is not None:
        rounded, found = worthwhile_convolutions(
            moved.network,
            rounded,
            recipe,
            plan.stage_convolutions,
            moved.statistics,
            images,
            plan.activations,
        )
        taken = replace(
            plan, floats=plan.floats - {*found}, convolutions=plan.convolutions | {*found}
        )
        now = description_of(taken)
        words = {name: each for name, each in recipe.description.items() if name not in CHOSEN}
        words |= {name: now[name] for name in CHOSEN if name in now}
        recipe = replace(recipe, weights={**recipe.weights, **found}, description=words)
    inputs = {name: each for name, each in recipe.inputs.items() if name in recipe.weights}
    return rounded, replace(recipe, inputs=inputs)


def _only_biases_moved(
    network: Network, statistics: Statistics, shared: Shared, without: Collection[str]
) -> Moved:
    """Moves biases alone: weights that learnt on a grid need the inputs that they learnt with."""
    left_out = {*without, BALANCE}
    names = shared.moves(network, statistics, left_out)
    return Moved(*shared.centred_and_balanced(network, statistics, left_out), {}, names)


def _with_tensors(
    recipe: Recipe,
    rounded: Network,
    images: Iterable[npt.NDArray[np.uint8]],
    wide: Collection[str],
) -> Recipe:
    """The recipe with the ranges of all tensors of a graph that is all integers."""
    computed = with_integer_weights(rounded, recipe)
    bits = recipe.precision.row.activation_bits or 16
    tensors = tensor_ranges(computed, recipe.inputs, images, narrow_bits=bits, wide=wide)
    return replace(recipe, tensors=tensors)


def _check_kept(network: Network, precision: Precision, keep_float: Collection[str]) -> None:
    known = dict(network.named_linears())
    can_be_lifted = liftable(network, precision)
    for name in keep_float:
        if name not in known:
            raise UsageError(f"there is no linear layer '{name}' to keep in float")
        if name not in can_be_lifted:
            raise UsageError(f"{precision} cannot keep '{name}' out of 8 bits")
