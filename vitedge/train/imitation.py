"""A lighter model imitates, block by block, the model that it was made of.

Its blocks may have fewer tokens. A token that stands for several imitates their mean, and counts as
often as there are tokens in it. Where the images are smaller, there are fewer patches, and each
imitates what the model made between the places of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vitedge.errors import UsageError
from vitedge.network.blocks import Ancestry, blocks
from vitedge.network.channels import takes_means
from vitedge.network.evaluate import resize_matrix
from vitedge.network.network import Network, Value
from vitedge.network.operators import Array, Constant, Match, ResizeKind
from vitedge.network.patch_grid import patch_grid

if TYPE_CHECKING:
    from vitedge.in_keras.model import NetworkModel

_Step: TypeAlias = Value | Array
"""A step of merging: what is found in each image, ``(N, new, old)``, or is the same for all."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """A block beside the block that it imitates.

    Attributes:
        resampled: The matrix from the tokens of the other block to as many as this one began with,
            ``(new, old)``; None if there are as many.
        steps: The merging on the way to this block, in order.
    """

    resampled: Array | None
    steps: tuple[_Step, ...]


class Imitation:
    """The distance of a model's blocks from those of another.

    Args:
        form: The model that learns.
        exact: The model that it imitates; it does not learn.

    Attributes:
        exact: The model that is imitated.
        shown: The values of ``form`` that the distance is measured by.
        ends: The values of ``exact.form`` that they are compared with.

    Raises:
        UsageError: The models do not have the same blocks.
    """

    def __init__(self, form: Network, exact: NetworkModel) -> None:
        found, others = ([block.end for block in blocks(each)] for each in (form, exact.form))
        if len(found) != len(others):
            raise UsageError(
                f"the model has {len(found)} blocks, and what it imitates {len(others)}: they must "
                "be the same"
            )
        ancestry = Ancestry(form)
        steps = [value for value in form.values if _merges(value)]
        self._pairs: list[_Pair] = []
        kept: list[tuple[Value, Value]] = []
        for end, other in zip(found, others, strict=True):
            before = [each for each in steps if ancestry.reaches(each, end)]
            pair = _pair(end, other, before, form, exact.form)
            if pair is not None:
                self._pairs.append(pair)
                kept.append((end, other))
        self.exact, self.ends = exact, [other for _, other in kept]
        self._matches = [each for each in steps if isinstance(each.operator, Match)]
        self.shown = [*(end for end, _ in kept), *self._matches]

    def distance(self, shown: Sequence[Any], wanted: Sequence[Any]) -> Any:
        """Noise over signal of the blocks' outputs: the mean over images and blocks.

        Args:
            shown: The tensors of the values ``shown``.
            wanted: The tensors of ``ends``.
        """
        import tensorflow as tf

        outputs = shown[: len(self._pairs)]
        matches = dict(zip(self._matches, shown[len(self._pairs) :], strict=True))
        distances = [
            _distance(output, exact, _composed(pair, matches))
            for output, exact, pair in zip(outputs, wanted, self._pairs, strict=True)
        ]
        return tf.add_n(distances) / len(distances)


def _merges(value: Value) -> bool:
    return isinstance(value.operator, Match) or takes_means(value)


def _pair(
    end: Value, other: Value, before: Sequence[Value], form: Network, exact: Network
) -> _Pair | None:
    """The block beside the other; None where their outputs cannot be compared."""
    if not before and end.shape == other.shape:
        return _Pair(None, ())
    if len(end.shape) != 2 or len(other.shape) != 2 or end.shape[1] != other.shape[1]:
        return None
    steps = tuple(each if isinstance(each.operator, Match) else _matrix(each) for each in before)
    first = steps[0].shape[-1] if steps else end.shape[0]
    if first == other.shape[0]:
        return _Pair(None, steps)
    resampled = _resampled(form, exact, first, other.shape[0])
    return None if resampled is None else _Pair(resampled, steps)


def _matrix(value: Value) -> Array:
    """The old tokens of each new one, as ones, ``(new, old)``."""
    shares = value.inputs[0].operator
    assert isinstance(shares, Constant)
    return np.asarray(shares.values > 0, np.float32)


def _resampled(form: Network, exact: Network, new: int, old: int) -> Array | None:
    """The matrix from the patches of one grid to those of another, ``(new, old)``."""
    grids = []
    for network in (exact, form):
        layers = (value for value, _ in network.linears())
        grid = patch_grid(next(layers))
        if grid is None:
            return None
        grids.append(grid.grid)
    (old_rows, old_columns), (new_rows, new_columns) = grids
    fixed = old - old_rows * old_columns
    if fixed < 0 or fixed != new - new_rows * new_columns:
        return None
    rows, columns = (
        resize_matrix(before, after, ResizeKind.BILINEAR)
        for before, after in ((old_rows, new_rows), (old_columns, new_columns))
    )
    matrix = np.eye(new, old, dtype=np.float32)
    matrix[fixed:, fixed:] = np.kron(rows, columns).T
    return matrix


def _composed(pair: _Pair, matches: dict[Value, Any]) -> tuple[Any, Array | None]:
    """The old tokens of each new one, as ones, ``(N or 1, new, old)``; None if none are merged.

    The matrix that resamples comes with it, if there is one.
    """
    import tensorflow as tf

    made = None
    for step in pair.steps:
        matrix = matches[step] if isinstance(step, Value) else tf.constant(step)[None]
        made = matrix if made is None else tf.matmul(matrix, made)
    return made, pair.resampled


def _distance(output: Any, exact: Any, changes: tuple[Any, Array | None]) -> Any:
    import tensorflow as tf

    merged, resampled = changes
    axes = list(range(1, len(exact.shape)))
    signal = tf.math.reduce_variance(exact, axis=axes)
    if resampled is not None:
        exact = tf.einsum("no,boc->bnc", tf.constant(resampled), exact)
    if merged is None:
        return tf.reduce_mean(tf.reduce_mean(tf.square(output - exact), axis=axes) / signal)
    counts = tf.reduce_sum(merged, axis=-1, keepdims=True)
    off = tf.reduce_mean(tf.square(output - tf.matmul(merged, exact) / counts), axis=-1)
    share = counts[..., 0] / tf.reduce_sum(counts[..., 0], axis=-1, keepdims=True)
    return tf.reduce_mean(tf.reduce_sum(share * off, axis=-1) / signal)
