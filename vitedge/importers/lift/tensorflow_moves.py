"""TensorFlow's operators that move numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitedge.importers.lift.draft import Draft, Tensor
from vitedge.importers.lift.joining import concatenated, padded
from vitedge.importers.lift.moving import expanded, taken
from vitedge.importers.lift.tensorflow_call import Call, Rule
from vitedge.importers.lift.views import View


def _same(call: Call) -> Tensor:
    return call.inputs[0]


def _same_each(call: Call) -> list[Tensor]:
    return list(call.inputs)


def _reshape(call: Call) -> Tensor:
    x, sizes = call.inputs[0], call.integers(1)
    known = math.prod(size for size in sizes if size != -1)
    count = math.prod(x.shape)
    return call.draft.reshaped(x, tuple(count // known if s == -1 else s for s in sizes))


def _squeeze(call: Call) -> Tensor:
    x = call.inputs[0]
    given = [axis % len(x.shape) for axis in call.attribute("squeeze_dims")]
    gone = given or [axis for axis, size in enumerate(x.shape) if size == 1]
    return call.draft.reshaped(x, tuple(s for a, s in enumerate(x.shape) if a not in gone))


def _expand_dims(call: Call) -> Tensor:
    return _with_axis(call.draft, call.inputs[0], call.integers(1)[0])


def _with_axis(draft: Draft, x: Tensor, axis: int) -> Tensor:
    axis %= len(x.shape) + 1
    return draft.reshaped(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _transpose(call: Call) -> Tensor:
    x, order = call.inputs[0], call.integers(1)
    return x.transposed(order) if isinstance(x, View) else x.transpose(order)


def _concat(call: Call) -> Tensor:
    parts = call.inputs[:-1]
    axis = call.integers(len(parts))[0]
    return concatenated(call.draft, parts, axis % len(parts[0].shape))


def _pack(call: Call) -> Tensor:
    axis = int(call.attribute("axis")) % (len(call.inputs[0].shape) + 1)
    parts = [_with_axis(call.draft, each, axis) for each in call.inputs]
    return concatenated(call.draft, parts, axis)


def _unpack(call: Call) -> list[Tensor]:
    x = call.inputs[0]
    axis = int(call.attribute("axis")) % len(x.shape)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    parts = (taken(call.draft, x, axis, [place]) for place in range(x.shape[axis]))
    return [call.draft.reshaped(part, shape) for part in parts]


def _split(call: Call) -> list[Tensor]:
    if call.op == "SplitV":
        x, sizes, axis = (
            call.inputs[0],
            call.integers(1),
            call.integers(2)[0] % len(call.inputs[0].shape),
        )
        known = sum(size for size in sizes if size != -1)
        sizes = [x.shape[axis] - known if size == -1 else size for size in sizes]
    else:
        x, axis = call.inputs[1], call.integers(0)[0] % len(call.inputs[1].shape)
        count = int(call.attribute("num_split"))
        sizes = [x.shape[axis] // count] * count
    ends = np.cumsum(sizes).tolist()
    pairs = zip([0, *ends], ends, strict=False)
    return [taken(call.draft, x, axis, range(first, end)) for first, end in pairs]


def _strided_slice(call: Call) -> Tensor:
    x, sizes = call.inputs[0], [call.integers(place) for place in (1, 2, 3)]
    masks = {
        name: int(call.attribute(f"{name}_mask"))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    places: list[Any] = []
    for number, (begin, end, step) in enumerate(zip(*sizes, strict=True)):
        bit = 1 << number
        if masks["ellipsis"] & bit:
            places.append(Ellipsis)
        elif masks["new_axis"] & bit:
            places.append(None)
        elif masks["shrink_axis"] & bit:
            places.append(begin)
        else:
            first = None if masks["begin"] & bit else begin
            places.append(slice(first, None if masks["end"] & bit else end, step))
    return _indexed(call.draft, x, places)


def _indexed(draft: Draft, x: Tensor, places: Sequence[Any]) -> Tensor:
    """A tensor indexed as NumPy does."""
    if not isinstance(x, View):
        return np.asarray(x[tuple(places)])
    read = sum(each is not None and each is not Ellipsis for each in places)
    wide = [slice(None)] * (len(x.shape) - read)
    at = places.index(Ellipsis) if Ellipsis in places else len(places)
    full = [*places[:at], *wide, *places[at + 1 :]]
    shape: list[int] = []
    made: Tensor = x
    axis = 0
    for each in full:
        if each is None:
            shape.append(1)
            continue
        if isinstance(each, slice):
            chosen = range(x.shape[axis])[each]
            shape.append(len(chosen))
        else:
            chosen = range(each % x.shape[axis], each % x.shape[axis] + 1)
        made = taken(draft, made, axis, chosen)
        axis += 1
    return draft.reshaped(made, tuple(shape))


def _slice(call: Call) -> Tensor:
    x, begins, sizes = call.inputs[0], call.integers(1), call.integers(2)
    places = [
        slice(begin, None if size == -1 else begin + size)
        for begin, size in zip(begins, sizes, strict=True)
    ]
    return _indexed(call.draft, x, places)


def _gather(call: Call) -> Tensor:
    x, places = call.inputs[0], call.fixed(1)
    axis = call.integers(2)[0] % len(x.shape) if len(call.inputs) > 2 else 0
    if call.op == "GatherV2" and call.attribute("batch_dims"):
        raise ValueError("it gathers from each image other places")
    made = taken(call.draft, x, axis, [int(each) for each in places.ravel()])
    return call.draft.reshaped(made, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _tile(call: Call) -> Tensor:
    x = call.inputs[0]
    for axis, count in enumerate(call.integers(1)):
        if count != 1:
            x = taken(call.draft, x, axis, list(range(x.shape[axis])) * count)
    return x


def _broadcast(call: Call) -> Tensor:
    return expanded(call.draft, call.inputs[0], tuple(call.integers(1)))


def _pad(call: Call) -> Tensor:
    x, sizes = call.inputs[0], call.fixed(1)
    number = float(call.fixed(2)) if call.op == "PadV2" else 0.0
    for axis, (before, after) in enumerate(sizes.tolist()):
        x = padded(call.draft, x, axis, (int(before), int(after)), number)
    return x


def _roll(call: Call) -> Tensor:
    x = call.inputs[0]
    for shift, axis in zip(call.integers(1), call.integers(2), strict=True):
        places = np.roll(np.arange(x.shape[axis]), shift).tolist()
        x = taken(call.draft, x, axis % len(x.shape), places)
    return x


def _reverse(call: Call) -> Tensor:
    x = call.inputs[0]
    for axis in call.integers(1):
        x = taken(call.draft, x, axis % len(x.shape), range(x.shape[axis])[::-1])
    return x


def _blocks(call: Call) -> Tensor:
    """``SpaceToDepth`` and ``DepthToSpace``."""
    x, size = call.inputs[0], int(call.attribute("block_size"))
    if call.attribute("data_format") != "NHWC":
        raise ValueError("its channels come first")
    n, h, w, c = x.shape
    if call.op == "SpaceToDepth":
        cut, end = (n, h // size, size, w // size, size, c), (n, h // size, w // size, -1)
        order = (0, 1, 3, 2, 4, 5)
    else:
        cut, end = (n, h, w, size, size, c // size**2), (n, h * size, w * size, -1)
        order = (0, 1, 3, 2, 4, 5)
    seen = call.draft.reshaped(x, cut)
    turned = seen.transposed(order) if isinstance(seen, View) else seen.transpose(order)
    count = math.prod(x.shape)
    return call.draft.reshaped(turned, (*end[:-1], count // math.prod(end[:-1])))


MOVES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "Identity",
            "StopGradient",
            "PreventGradient",
            "Snapshot",
            "Cast",
            "CheckNumerics",
            "EnsureShape",
            "PlaceholderWithDefault",
        ),
        _same,
    ),
    "IdentityN": _same_each,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Transpose": _transpose,
    **dict.fromkeys(("ConcatV2",), _concat),
    "Pack": _pack,
    "Unpack": _unpack,
    **dict.fromkeys(("Split", "SplitV"), _split),
    "StridedSlice": _strided_slice,
    "Slice": _slice,
    **dict.fromkeys(("Gather", "GatherV2"), _gather),
    "Tile": _tile,
    "BroadcastTo": _broadcast,
    **dict.fromkeys(("Pad", "PadV2"), _pad),
    "Roll": _roll,
    "ReverseV2": _reverse,
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), _blocks),
}
