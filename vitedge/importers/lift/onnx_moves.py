"""ONNX's operators that move numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vitedge.importers.lift.draft import Tensor
from vitedge.importers.lift.joining import concatenated, padded
from vitedge.importers.lift.moving import expanded, taken
from vitedge.importers.lift.placing import placed
from vitedge.importers.lift.views import View

if TYPE_CHECKING:
    pass
from vitedge.importers.lift.onnx_call import Call, Rule


def _same(call: Call) -> Tensor:
    return call.any(0)


def _reshape(call: Call) -> Tensor:
    x, wanted = call.any(0), call.fixed(1)
    assert wanted is not None
    sizes = [int(each) for each in wanted]
    if not call.attributes.get("allowzero"):
        sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return call.draft.reshaped(x, _without_unknown(sizes, math.prod(x.shape)))


def _without_unknown(sizes: Sequence[int], count: int) -> tuple[int, ...]:
    known = math.prod(size for size in sizes if size != -1)
    return tuple(count // known if size == -1 else size for size in sizes)


def _flatten(call: Call) -> Tensor:
    x = call.any(0)
    axis = call.attributes.get("axis", 1) % (len(x.shape) + 1)
    shape = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    return call.draft.reshaped(x, shape)


def _squeeze(call: Call) -> Tensor:
    x, axes = call.any(0), call.integers(1, "axes")
    rank = len(x.shape)
    gone = (
        {axis % rank for axis in axes}
        if axes is not None
        else {axis for axis, size in enumerate(x.shape) if size == 1}
    )
    return call.draft.reshaped(x, tuple(s for a, s in enumerate(x.shape) if a not in gone))


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call.any(0), call.integers(1, "axes") or []
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    sizes = iter(x.shape)
    return call.draft.reshaped(x, tuple(1 if a in new else next(sizes) for a in range(rank)))


def _transpose(call: Call) -> Tensor:
    x = call.any(0)
    order = call.attributes.get("perm") or list(range(len(x.shape)))[::-1]
    return x.transposed(order) if isinstance(x, View) else x.transpose(order)


def _concat(call: Call) -> Tensor:
    parts = [each for each in call.inputs if each is not None]
    axis = call.attributes["axis"] % len(parts[0].shape)
    return concatenated(call.draft, parts, axis)


def _split(call: Call) -> list[Tensor]:
    x, sizes = call.any(0), call.integers(1, "split")
    axis = call.attributes.get("axis", 0) % len(x.shape)
    if sizes is None:
        count = call.attributes["num_outputs"]
        each = -(-x.shape[axis] // count)
        sizes = [min(each, x.shape[axis] - each * place) for place in range(count)]
    starts = np.cumsum([0, *sizes])
    pairs = pairwise(starts)
    return [taken(call.draft, x, axis, range(int(a), int(b))) for a, b in pairs]


def _slice(call: Call) -> Tensor:
    x = call.any(0)
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes = call.integers(3, "axes")
    steps = call.integers(4, "steps") if len(call.inputs) > 4 else None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        # What counts from the end stops before the first place, which a slice cannot say.
        stop = None if step < 0 and end < -size else end
        places = range(size)[slice(start, stop, step)]
        x = taken(call.draft, x, axis % len(x.shape), places)
    return x


def _gather(call: Call) -> Tensor:
    x, places = call.any(0), call.fixed(1)
    assert places is not None
    axis = call.attributes.get("axis", 0) % len(x.shape)
    if not isinstance(x, View):
        return x.take(places.astype(np.int64), axis)
    made = taken(call.draft, x, axis, [int(each) for each in places.ravel()])
    return call.draft.reshaped(made, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _expand(call: Call) -> Tensor:
    shape = call.fixed(1)
    assert shape is not None
    return expanded(call.draft, call.any(0), tuple(int(each) for each in shape))


def _tile(call: Call) -> Tensor:
    x, times = call.any(0), call.integers(1, "repeats") or []
    for axis, count in enumerate(times):
        if count != 1:
            x = taken(call.draft, x, axis, list(range(x.shape[axis])) * count)
    return x


def _pad(call: Call) -> Tensor:
    x, pads = call.any(0), call.integers(1, "pads") or []
    if call.attributes.get("mode", "constant") != "constant":
        raise ValueError(f"it pads by {call.attributes['mode']}")
    fill = call.fixed(2)
    number = 0.0 if fill is None or not fill.size else float(fill.reshape(()))
    axes = call.integers(3, "axes") if len(call.inputs) > 3 else None
    axes = list(range(len(x.shape))) if axes is None else axes
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        x = padded(call.draft, x, axis % len(x.shape), (before, after), number)
    return x


def _depth_to_space(call: Call) -> Tensor:
    x, size = call.any(0), call.attributes["blocksize"]
    n, c, h, w = x.shape
    if call.attributes.get("mode", "DCR") == "DCR":
        shape, order = (n, size, size, c // size**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        shape, order = (n, c // size**2, size, size, h, w), (0, 1, 4, 2, 5, 3)
    cut = call.draft.reshaped(x, shape)
    turned = cut.transposed(order) if isinstance(cut, View) else cut.transpose(order)
    return call.draft.reshaped(turned, (n, c // size**2, h * size, w * size))


def _scatter(call: Call) -> Tensor:
    places = call.fixed(1)
    assert places is not None
    if call.attributes.get("reduction", "none") != "none":
        raise ValueError(f"it reduces by {call.attributes['reduction']}")
    return placed(call.draft, call.any(0), places, call.any(2))


MOVES: dict[str, Rule] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout"), _same),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "ScatterND": _scatter,
    "DepthToSpace": _depth_to_space,
}
