"""Weights rounded with error feedback: GPTQ (arXiv:2210.17323).

The rows of a weight are rounded one after the other, and each row's error is made up for by the
rows that are still to come, as far as their inputs are correlated. What is minimised is the
squared error of the output over the calibration tokens, those weighing more whose errors move the
logits more (see ``gradients``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.network.operators import Array
from vitedge.quantize import IntegerWeight, of_each_weight
from vitedge.quantize.input_statistics import InputStatistics
from vitedge.quantize.weights import half_precision
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS

# Added to the diagonal, relative to its mean: correlations weaker than this are not trusted. On
# DeiT-tiny anything from 0.01 to 0.2 is within 0.2 dB.
_DAMPING = 0.05

# And relative to the mean square of the inputs, which float32 differences do not reach.
_LEAST = 1e-5

# No token weighs more than this many average ones.
_MOST_WEIGHT = 50.0

_TINY = np.finfo(np.float32).tiny

# Scales settle in two rounds; a third gains 0.01 dB.
_ROUNDS = 2

# Rows between two updates of the rest of the matrix; for speed alone.
_BLOCK = 64


def output_hessian(statistics: InputStatistics) -> Array:
    """The way in which errors in a layer's weight rows add up, ``(inputs, inputs)``.

    The covariance of the inputs: the mean is left to the bias. Half of it counts all tokens
    alike, half those that matter to the logits; with few tokens the diagonal is believed more.
    """
    width = len(statistics.mean)
    hessian = statistics.moments - np.outer(statistics.mean, statistics.mean)
    if len(statistics.rows):
        centred = statistics.rows - statistics.mean
        matter = statistics.counts * (statistics.gradients**2).sum(axis=1)
        average = (matter @ statistics.counts) / (statistics.counts @ statistics.counts)
        matter = np.minimum(matter, _MOST_WEIGHT * average)
        total = matter.sum()
        if total > 0:
            mattering = (centred * (matter / total)[:, None]).T @ centred
            hessian = (hessian + mattering) / 2
    diagonal = np.diag(hessian).copy()
    believed = statistics.count / (statistics.count + width)
    hessian = hessian * np.float32(believed)
    # Inputs that never vary (the first class token) still need a positive diagonal.
    energy = np.diag(statistics.moments).mean()
    floor = np.float32(_DAMPING * diagonal.mean() + _LEAST * energy + _TINY)
    np.fill_diagonal(hessian, diagonal + floor)
    result: Array = hessian.astype(np.float32)
    return result


class Feedback(NamedTuple):
    """The way in which errors in a layer's rows add up, and later rows make up for them.

    Attributes:
        hessian: ``H``, ``(inputs, inputs)``.
        order: The order in which the rows are rounded, ``(inputs,)``.
        upper: ``R`` of ``H⁻¹ = Rᵀ R``, in that order, ``(inputs, inputs)``.
    """

    hessian: Array
    order: npt.NDArray[np.intp]
    upper: Array


def feedback(hessian: Array) -> Feedback:
    """Factors a Hessian.

    Raises:
        ConversionError: The Hessian is not positive: an input held NaN or infinity.
    """
    from scipy.linalg import LinAlgError, cholesky
    from scipy.linalg.lapack import strtri

    order = np.argsort(-np.diag(hessian), kind="stable")
    # Reversing both axes turns the lower factor of H into an upper one, whose inverse is R.
    reverse = order[::-1]
    try:
        lower = cholesky(hessian[np.ix_(reverse, reverse)], lower=True)
    except (LinAlgError, ValueError) as error:
        raise ConversionError(
            f"the calibration images make a layer's input not finite ({error})"
        ) from error
    # A third of the work of solving for each column of the identity.
    inverse, _ = strtri(lower, lower=1, overwrite_c=1)
    factor: Array = np.ascontiguousarray(inverse[::-1, ::-1])
    return Feedback(hessian, order, factor)


def importance_of_inputs(known: Feedback) -> Array:
    """The cost of an error in each input's weights if later ones make up for it, ``(inputs,)``."""
    importance = np.empty(len(known.order), np.float32)
    importance[known.order] = 1 / np.square(np.diag(known.upper))
    return importance


def round_with_feedback(
    weight: Array,
    known: Feedback,
    scale: Array,
    zero: npt.NDArray[np.int8] | None = None,
    *,
    bits: int = 8,
) -> npt.NDArray[np.int8]:
    """Integers ``(inputs, outputs)`` within ``INTEGER_LIMITS``.

    Args:
        weight: ``(inputs, outputs)``.
        known: The feedback of the layer's input.
        scale: The scale of each output ``(outputs,)``, or of groups of its inputs ``(groups,
            outputs)``.
        zero: The integer that stands for 0, likewise; None is 0.
        bits: The width of the integers.
    """
    low, high = INTEGER_LIMITS[bits]
    _, order, upper = known
    rest = weight[order].astype(np.float32)
    if zero is None:
        zero = np.zeros(scale.shape, np.int8)
    scales, zeros = (
        np.broadcast_to(of_each_weight(each, len(weight)), weight.shape)[order]
        for each in (scale, zero)
    )
    integers = np.empty(weight.shape, np.int8)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        errors = np.empty((stop - start, weight.shape[1]), np.float32)
        for row in range(start, stop):
            rounded = np.clip(np.rint(rest[row] / scales[row]) + zeros[row], low, high)
            integers[order[row]] = rounded
            error = (rest[row] - (rounded - zeros[row]) * scales[row]) / upper[row, row]
            rest[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], error)
            errors[row - start] = error
        rest[stop:] -= upper[start:stop, stop:].T @ errors
    return integers


def refitted(rounded: IntegerWeight, weight: Array, known: Feedback) -> IntegerWeight:
    """The weight with the same integers and the scales that suit them best, group after group.

    A scale is searched before rounding, for weights each on its own. Afterwards the error ``E`` of
    an output is known, and ``Eᵀ H E`` is a parabola of each of its scales.

    Args:
        rounded: The weight, with groups; its scales are numbers of half precision, and remain such.
        weight: The float weight that it stands for, ``(inputs, outputs)``.
        known: The feedback of its input.
    """
    hessian = known.hessian
    size = rounded.group
    steps = rounded.steps()
    scale = rounded.scale.copy()
    slope = hessian @ (weight - rounded.dequantized())
    for _ in range(_ROUNDS):
        for group, start in enumerate(range(0, len(weight), size)):
            part = slice(start, start + size)
            here = steps[part]
            curvature = (here * (hessian[part, part] @ here)).sum(axis=0)
            missing = (here * slope[part]).sum(axis=0) / np.maximum(curvature, _TINY)
            better = half_precision(scale[group] + missing)
            slope -= hessian[:, part] @ (here * (better - scale[group]))
            scale[group] = better
    return replace(rounded, scale=scale)
