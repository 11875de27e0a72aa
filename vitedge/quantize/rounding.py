"""Weights rounded with error feedback: GPTQ (arXiv:2210.17323).

The rows of a weight are rounded one after the other, and each row's error is made up for by the
rows that are still to come, as far as their inputs are correlated. What is minimised is the
squared error of the output over the calibration tokens, those weighing more whose errors move the
logits more (see ``gradients``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.quantize.input_statistics import InputStatistics
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS
from vitedge.vit import Array

# Added to the diagonal, relative to its mean: correlations weaker than this are not trusted. On
# DeiT-tiny anything from 0.01 to 0.2 is within 0.2 dB.
_DAMPING = 0.05

# And relative to the mean square of the inputs, which float32 differences do not reach.
_LEAST = 1e-5

# No token weighs more than this many average ones.
_MOST_WEIGHT = 50.0

# Rows between two updates of the rest of the matrix; for speed alone.
_BLOCK = 64


def output_hessian(statistics: InputStatistics) -> Array:
    """How errors in a layer's weight rows add up, ``(inputs, inputs)``.

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
    floor = np.float32(_DAMPING * diagonal.mean() + _LEAST * energy + np.finfo(np.float32).tiny)
    np.fill_diagonal(hessian, diagonal + floor)
    result: Array = hessian.astype(np.float32)
    return result


def feedback_factor(hessian: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """The order of rounding, and the upper factor ``R`` of the inverse: ``H⁻¹ = Rᵀ R``, permuted.

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
    return order, factor


def importance_of_inputs(factor: tuple[npt.NDArray[np.intp], Array]) -> Array:
    """What an error in each input's weights costs when later ones make up for it, ``(inputs,)``."""
    order, upper = factor
    importance = np.empty(len(order), np.float32)
    importance[order] = 1 / np.square(np.diag(upper))
    return importance


def round_with_feedback(
    weight: Array,
    factor: tuple[npt.NDArray[np.intp], Array],
    scale: Array,
    zero: npt.NDArray[np.int8] | None = None,
    *,
    bits: int = 8,
) -> npt.NDArray[np.int8]:
    """Integers ``(inputs, outputs)`` within ``INTEGER_LIMITS``.

    Args:
        weight: ``(inputs, outputs)``.
        factor: Of ``feedback_factor``.
        scale: Of each output ``(outputs,)``, or of each weight ``(inputs, outputs)``.
        zero: The integer that stands for 0, likewise; None is 0.
        bits: Of the integers.
    """
    low, high = INTEGER_LIMITS[bits]
    order, upper = factor
    rest = weight[order].astype(np.float32)
    scales = np.broadcast_to(scale, weight.shape)[order]
    zeros = np.broadcast_to(np.int8(0) if zero is None else zero, weight.shape)[order]
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
