"""Channels that can only be removed together, between linear layers.

A hidden channel of an MLP is made by a column of one layer (two, where it is gated) and read by a
row of another. A head is some columns of the layers of queries, keys and values, and some rows of
the layer behind. Both are found in one way: each output of a linear layer carries its own number
through whatever stands behind it, and numbers that meet in a sum, a product or a norm belong
together. So gates, rotary positions, windows and keys that several heads share need no rule of
their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Linear,
    Multiply,
    Norm,
    Operator,
    Product,
    Reshape,
    Shape,
    Softmax,
    Take,
    Transpose,
)
from vitedge.network.structure import Readers, moved, readers

Numbers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Coupled:
    """Linear layers, others that read what they make, and all between them.

    Attributes:
        layers: The linear layers that make the channels.
        values: The values between, in the order of computation; the last is the one that is read.
        readers: The linear layers that read it.
        units: The axis of the channels of each value and each layer, and the unit of each channel.
    """

    layers: tuple[Value, ...]
    values: tuple[Value, ...]
    readers: tuple[Value, ...]
    units: Mapping[Value, tuple[int, Numbers]]

    @property
    def read(self) -> Value:
        """The value that the readers read, ``(..., channels)``."""
        return self.readers[0].inputs[0]

    @property
    def rows(self) -> Numbers:
        """The unit of each channel that is read, from 0, ``(channels,)``."""
        return self.units[self.read][1]

    @property
    def mixes_tokens(self) -> bool:
        """Whether its units are heads."""
        return any(isinstance(each.operator, Product) for each in self.values)


def coupled(network: Network) -> tuple[Coupled, ...]:
    """All such places with more than one unit, in the order of computation.

    Places with an operator that is not understood are left out, and so are those that an output
    shows.
    """
    read, shown = readers(network), frozenset(network.outputs.values())
    place = {value: number for number, value in enumerate(network.values)}
    found: list[Coupled] = []
    seen: set[Value] = set()
    for value, _ in network.linears():
        source = value.inputs[0]
        if source in seen or len(source.shape) < 2:
            continue
        region = _Region.around(source, read, shown)
        seen |= region.values | {source}
        made = None if region.is_open else _coupled(region, place, read)
        if made is not None:
            found.append(made)
    return tuple(found)


def without_units(
    place: Coupled, gone: Numbers, operators: Mapping[Value, Operator]
) -> dict[Value, Operator]:
    """The operators of what makes and moves the channels, when some units are gone.

    Those of the readers are not among them: what they do without these channels is for others to
    say.

    Args:
        place: The layers and the values between.
        gone: Numbers of units.
        operators: The operators that other changes have made already, by value.
    """
    changed: dict[Value, Operator] = {}
    for value in (*place.layers, *place.values):
        axis, units = place.units[value]
        kept = np.flatnonzero(~np.isin(units, gone))
        operator = operators.get(value, value.operator)
        match operator:
            case Linear(weight=weight, bias=bias):
                changed[value] = Linear(weight[:, kept], bias[kept])
            case Reshape(to=to):
                changed[value] = Reshape((*to[:axis], len(kept), *to[axis + 1 :]))
            case Take(axis=along, places=places) if along == place.units[value.inputs[0]][0]:
                stay = ~np.isin(place.units[value.inputs[0]][1], gone)
                number = np.cumsum(stay) - 1
                now = tuple(int(number[each]) for each in places if stay[each])
                changed[value] = Take(along, now)
            case Add() | Multiply():
                changed |= _constants(value, axis, kept)
            case _:
                pass
    return changed


def _constants(value: Value, axis: int, kept: Numbers) -> Iterator[tuple[Value, Operator]]:
    """The constants that a sum or product has along the axis of the channels."""
    for each in value.inputs:
        along = axis - (len(value.shape) - len(each.shape))
        if isinstance(each.operator, Constant) and along >= 0 and each.shape[along] > 1:
            yield each, Constant(each.operator.values.take(kept, along))


@dataclass(frozen=True, eq=False)
class _Region:
    """All values around one that linear layers read, up to the linear layers on each side.

    Attributes:
        layers: The linear layers that make them.
        values: The values between.
        readers: The linear layers that read some of them.
        is_open: Whether something stands there that is not understood.
    """

    layers: frozenset[Value]
    values: frozenset[Value]
    readers: frozenset[Value]
    is_open: bool

    @classmethod
    def around(cls, start: Value, read: Readers, shown: frozenset[Value]) -> _Region:
        layers, values, reading = set[Value](), set[Value](), set[Value]()
        unseen, is_open = [start], False
        while unseen:
            value = unseen.pop()
            if value in values or value in layers:
                continue
            if isinstance(value.operator, Linear):
                layers.add(value)
            else:
                values.add(value)
                unseen += [each for each in value.inputs if not each.is_constant]
                is_open |= not _is_understood(value)
            is_open |= value in shown
            for each in read[value]:
                if isinstance(each.operator, Linear):
                    reading.add(each)
                else:
                    unseen.append(each)
        is_open |= bool(layers & reading) or len({each.inputs[0] for each in reading}) > 1
        return cls(frozenset(layers), frozenset(values), frozenset(reading), is_open)


def _is_understood(value: Value) -> bool:
    constants = [each for each in value.inputs if each.is_constant]
    match value.operator:
        case Add() | Multiply():
            return len(constants) < 2
        case Product() | Concatenate():
            return not constants
        case Softmax():
            return len(value.inputs) == 1
        case Activate() | Norm() | Reshape() | Transpose() | Take():
            return True
        case _:
            return False


def _coupled(region: _Region, place: Mapping[Value, int], read: Readers) -> Coupled | None:
    layers, values, reading = (
        tuple(sorted(each, key=place.__getitem__))
        for each in (region.layers, region.values, region.readers)
    )
    joined = _Joined(sum(each.shape[-1] for each in layers))
    numbers = _numbered(layers)
    for value in values:
        numbers[value] = joined.carried(value, [numbers.get(each) for each in value.inputs])
    unit_of = joined.units()
    units: dict[Value, tuple[int, Numbers]] = {}
    for value, found in numbers.items():
        along = _along_one_axis(unit_of[found])
        if along is None:
            return None
        units[value] = along
    end = reading[0].inputs[0]
    axis, rows = units[end]
    if axis != len(end.shape) - 1 or len(set(rows.tolist())) < 2:
        return None
    # Units by the order of the rows; what nobody reads would be a unit without any.
    names, first = np.unique(rows, return_index=True)
    order = names[np.argsort(first)]
    if any(not np.isin(each, order).all() for _, each in units.values()):
        return None
    number = {int(name): at for at, name in enumerate(order)}
    units = {
        value: (axis, np.asarray([number[int(each)] for each in found]))
        for value, (axis, found) in units.items()
    }
    if any(len(read[each]) > 1 for each in _cut_constants(values, units)):
        return None  # only one reader could have a part of it
    return Coupled(layers, values, reading, units)


def _numbered(layers: Sequence[Value]) -> dict[Value, Numbers]:
    """A number for each output of each layer, the same for all tokens."""
    starts = np.cumsum([0, *(each.shape[-1] for each in layers)])
    return {
        each: np.broadcast_to(np.arange(start, start + each.shape[-1]), each.shape)
        for each, start in zip(layers, starts.tolist(), strict=False)
    }


def _cut_constants(
    values: Sequence[Value], units: Mapping[Value, tuple[int, Numbers]]
) -> Iterator[Value]:
    """The constants that have a part for each channel."""
    for value in values:
        if isinstance(value.operator, Add | Multiply):
            yield from (each for each, _ in _constants(value, *units[value]))


def _along_one_axis(units: Numbers) -> tuple[int, Numbers] | None:
    """The one axis along which units differ, and the unit at each place of it.

    Where all are one unit it is the last axis.
    """
    differs = [
        axis for axis in range(units.ndim) if not (units == units.take([0], axis)).all()
    ] or [units.ndim - 1]
    if len(differs) > 1:
        return None
    (axis,) = differs
    first = (0,) * axis + (slice(None),) + (0,) * (units.ndim - axis - 1)
    return axis, units[first]


class _Joined:
    """Numbers that belong together."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pairs: list[npt.NDArray[np.int64]] = []

    def units(self) -> Numbers:
        """The unit that each number is of, ``(count,)``."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._pairs])
        ones = np.ones(len(pairs), bool)
        graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(self._count,) * 2)
        found: Numbers = connected_components(graph, directed=False)[1].astype(np.int64)
        return found

    def carried(self, value: Value, inputs: Sequence[Numbers | None]) -> Numbers:
        """The numbers of what a value makes; those that meet are joined.

        Args:
            value: The value that makes them.
            inputs: The numbers of its inputs; None for constants.
        """
        live = [each for each in inputs if each is not None]
        x = live[0]
        match value.operator:
            case Reshape() | Transpose() | Take():
                return moved(value, x)
            case Concatenate(axis=axis):
                return np.concatenate(live, axis)
            case Add() | Multiply():
                wide = [np.broadcast_to(each, value.shape) for each in live]
                self._join(wide[0], wide[-1])
                return wide[0]
            case Norm() | Softmax():
                self._join(x, x[..., :1])
            case Product(transposed=True):
                return self._met(live[0], live[1], value.shape)
            case Product():
                shares, mixed = live
                self._join(shares, shares[..., :1, :1])
                self._join(mixed, shares[..., :1, :1])
                return np.broadcast_to(mixed[..., :1, :], value.shape)
            case _:
                pass
        return x

    def _met(self, queries: Numbers, keys: Numbers, shape: Shape) -> Numbers:
        first = queries[..., :1, :1]
        for each in (queries, keys):
            self._join(each, first)
        return np.broadcast_to(first, shape)

    def _join(self, some: Numbers, others: Numbers) -> None:
        a, b = np.broadcast_arrays(some, others)
        differ = a != b
        if differ.any():
            both = np.unique(a[differ] * self._count + b[differ])
            self._pairs.append(np.stack([both // self._count, both % self._count], axis=1))
