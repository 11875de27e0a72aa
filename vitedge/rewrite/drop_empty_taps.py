"""Leaves out the taps of a convolution that are zero for a whole phase of an enlarged image.

A transposed convolution of stride ``s`` is a convolution that makes ``s x s`` phases as channels,
which are then moved between their neighbours. Each phase uses other taps: of a kernel of 4 at
stride 2, one phase reads the places -1 and 0, the other 0 and 1, so a window of 3 multiplies zeros
in five of nine places. A phase that begins one place later is what a window of 2 makes one place
later. So one convolution with the smaller window, at one more place, makes the same phases, those
that begin later first::

    window of 3   place i:  phase 0 (i-1, i), phase 1 (i, i+1)
    window of 2   place q:  phase 1 of i = q-1 (q-1, q), phase 0 of i = q (q-1, q)

The rows and columns that come out beyond both ends are cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Activate, Convolution, Operator, Reshape, Take, Transpose
from vitedge.network.structure import Readers, readers

# Cutting off and an odd size cost some time, too.
_WORTHWHILE = 0.8


@dataclass(frozen=True)
class _Axis:
    """The smaller window along one axis.

    Attributes:
        starts: The tap that each phase begins with.
        window: Its taps.
        padding: The padding before and after.
    """

    starts: tuple[int, ...]
    window: int
    padding: tuple[int, int]

    @property
    def order(self) -> list[int]:
        """The phases, those first that begin later."""
        first = min(self.starts)
        later = [phase for phase, start in enumerate(self.starts) if start > first]
        return [*later, *(phase for phase, start in enumerate(self.starts) if start == first)]

    @property
    def cut(self) -> int:
        """The number of rows of the enlarged image that are cut off before its first."""
        return sum(start > min(self.starts) for start in self.starts)


class DropEmptyTaps:
    """See the module's docstring."""

    name = "drop-empty-taps"
    order = 85
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        read, shown = readers(network), frozenset(network.outputs.values())

        def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
            chain = _chain(value, read, shown)
            return None if chain is None else _made(value, chain, inputs)

        return rebuilt(network, change)


def _chain(value: Value, read: Readers, shown: frozenset[Value]) -> list[Value] | None:
    """The values from the convolution to just before the enlarged image, if this is one."""
    chain = [value]
    while not isinstance(chain[0].operator, Convolution):
        last = chain[0]
        if len(last.inputs) != 1 or len(read[last.inputs[0]]) != 1 or last.inputs[0] in shown:
            return None
        chain.insert(0, last.inputs[0])
    match [each.operator for each in chain]:
        case [
            Convolution(strides=(1, 1), groups=1),
            *others,
            Reshape(to=(height, width, rows, _)),
            Transpose(axes=(0, 2, 1, 3)),
            Reshape(to=(tall, wide, channels)),
        ] if all(isinstance(each, Activate) for each in others):
            is_enlarged = tall == height * rows and wide * channels == width * chain[-3].shape[3]
            is_image = chain[0].shape[:2] == (height, width) and wide % width == 0
            return chain if is_enlarged and is_image else None
        case _:
            return None


def _made(value: Value, chain: list[Value], inputs: tuple[Value, ...]) -> Value | None:
    first = chain[0]
    layer = first.operator
    assert isinstance(layer, Convolution)
    height, width, _ = first.shape
    tall, wide, channels = value.shape
    strides = tall // height, wide // width
    by_phase = layer.weight.reshape(*layer.weight.shape[:3], *strides, channels)
    used = by_phase != 0
    rows = _axis(used.any((1, 2, 4, 5)), layer.padding[0], first.inputs[0].shape[0])
    columns = _axis(used.any((0, 2, 3, 5)), layer.padding[1], first.inputs[0].shape[1])
    if rows is None or columns is None:
        return None
    high, broad = height + bool(rows.cut), width + bool(columns.cut)
    before = height * width * layer.weight.shape[0] * layer.weight.shape[1]
    if high * broad * rows.window * columns.window > _WORTHWHILE * before:
        return None
    bias = layer.bias.reshape(*strides, channels)[np.ix_(rows.order, columns.order)].reshape(-1)
    padding = rows.padding, columns.padding
    smaller = Convolution(_weight(by_phase, rows, columns), bias, (1, 1), padding)
    steps: list[tuple[str, Operator]] = [(first.name, smaller)]
    steps += [(each.name, each.operator) for each in chain[1:-3]]
    steps += [
        (chain[-3].name, Reshape((high, broad, strides[0], strides[1] * channels))),
        (chain[-2].name, chain[-2].operator),
        (f"{value.name}/all", Reshape((high * strides[0], broad * strides[1], channels))),
        (f"{value.name}/rows", Take(0, tuple(range(rows.cut, rows.cut + tall)))),
        (value.name, Take(1, tuple(range(columns.cut, columns.cut + wide)))),
    ]
    made = _source(inputs[0], len(chain) - 1)
    for name, operator in steps:
        made = Value(name, operator, (made,))
    return made


def _source(value: Value, steps: int) -> Value:
    """The input of the convolution in the network that is being made."""
    for _ in range(steps):
        (value,) = value.inputs
    return value


def _axis(used: npt.NDArray[np.bool_], padding: tuple[int, int], size: int) -> _Axis | None:
    """The smallest window of an axis.

    Args:
        used: Whether a phase has a tap, ``(taps, phases)``.
        padding: The padding of the window of all taps.
        size: The size of the input.
    """
    if not used.any(0).all():
        return None
    taps = len(used)
    first, last = used.argmax(0), taps - 1 - used[::-1].argmax(0)
    window = int((last - first).max()) + 1
    for base in range(taps):
        # One place later only where it must be, so that those phases are the last.
        starts = tuple(base + int(each >= base + window) for each in last)
        fits = all(start <= each for start, each in zip(starts, first, strict=True))
        covers = all(each < start + window for start, each in zip(starts, last, strict=True))
        if fits and covers and list(starts) == sorted(starts):
            before, shift = padding[0] - base, max(starts) - base
            places = size + sum(padding) - taps + 1 + shift
            after = places - 1 - before + window - size
            return _Axis(starts, window, (before, after)) if min(before, after) >= 0 else None
    return None


def _weight(
    by_phase: npt.NDArray[np.float32], rows: _Axis, columns: _Axis
) -> npt.NDArray[np.float32]:
    """The taps of each phase in its smaller window, ``(rows, columns, channels, outputs)``."""
    channels = by_phase.shape[2]
    padded = np.pad(by_phase, ((0, rows.window), (0, columns.window), *[(0, 0)] * 4))
    down = np.stack([padded[s : s + rows.window, :, :, r] for r, s in _ordered(rows)], 3)
    both = np.stack([down[:, s : s + columns.window, ..., c, :] for c, s in _ordered(columns)], 4)
    return np.ascontiguousarray(both.reshape(rows.window, columns.window, channels, -1))


def _ordered(axis: _Axis) -> list[tuple[int, int]]:
    return [(phase, axis.starts[phase]) for phase in axis.order]


PLUGIN = DropEmptyTaps()
