"""Numbers put into a part of a tensor, as exporters spell an assignment to a slice."""

from __future__ import annotations

import math

import numpy as np

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.joining import concatenated
from vitedge.importers.lift.moving import taken
from vitedge.network.operators import Shape


def placed(draft: Draft, into: Tensor, places: Fixed, numbers: Tensor) -> Tensor:
    """A tensor with other numbers at some places, as ``ScatterND`` without a reduction.

    Args:
        draft: The draft that is being read.
        into: The tensor.
        places: ``(..., k)`` coordinates on its first ``k`` axes.
        numbers: The new numbers at those places.

    Raises:
        ValueError: The places are not those of a slice, in order.
    """
    lows, sizes = _slice_of(places, into.shape)
    inner = (*sizes, *into.shape[len(sizes) :])
    made = draft.reshaped(numbers, inner)
    cut = [axis for axis, size in enumerate(sizes) if size != into.shape[axis]]
    for axis in reversed(cut):
        around = into
        for other in cut[: cut.index(axis)]:  # which are put together later
            around = taken(draft, around, other, range(lows[other], lows[other] + sizes[other]))
        before, after = range(lows[axis]), range(lows[axis] + sizes[axis], into.shape[axis])
        parts = [taken(draft, around, axis, each) for each in (before, after) if each]
        parts.insert(1 if before else 0, made)
        made = concatenated(draft, parts, axis)
    return made


def _slice_of(places: Fixed, shape: Shape) -> tuple[list[int], list[int]]:
    """The first coordinates of a slice, and its sizes."""
    depth = places.shape[-1]
    flat = places.reshape(-1, depth).astype(np.int64)
    flat = np.where(flat < 0, flat + np.asarray(shape[:depth]), flat)
    lows, sizes = flat.min(axis=0), np.ptp(flat, axis=0) + 1
    if math.prod(map(int, sizes)) == len(flat):
        ordered = np.indices(sizes).reshape(depth, -1).T + lows
        if np.array_equal(flat, ordered):
            return [int(each) for each in lows], [int(each) for each in sizes]
    raise ValueError("its places are not those of a slice")
