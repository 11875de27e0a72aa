"""Moves numbers once where several steps move them.

Windows that overlap, as in VOLO's outlook attention (arXiv:2106.13112), are cut out of an image in
many steps: it is padded, rows and columns are taken, and axes are put in order until each head has
its windows. Every step copies all numbers, some of them one by one. What comes of it is runs of
neighbours, the channels of a head, which were runs of neighbours before. So one ``Take`` of runs is
enough, with a run of zeros for the padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import (
    Concatenate,
    Constant,
    Product,
    Reshape,
    Take,
    Transpose,
)
from vitedge.network.structure import is_move, moved

# The copy of a run takes as long as that of so many numbers more.
_RUN = 8

# The largest share of the copies that is worth another graph than the model's own.
_WORTHWHILE = 0.6

# Halves that change places, or an image that is rolled, are slices side by side, which are fast.
_SLICES = 2

_ZERO = -1

Places: TypeAlias = npt.NDArray[np.int64]
"""Places of numbers or runs in a value that lies flat; ``_ZERO`` is one of zeros."""


class TakeOnce:
    """One ``Take`` of runs in place of moves that take numbers here and there."""

    name = "take-once"
    order = 95
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        uses = Uses.of(network)
        made: dict[Value, Value] = {}

        def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
            new = value if inputs == value.inputs else replace(value, inputs=inputs)
            if isinstance(value.operator, Product) and uses.sole_reader(value.inputs[1]):
                turned = _turned(value.inputs[1])
                runs = _worthwhile(turned, value.inputs[1], uses)
                if runs is not None:
                    operator = Product(transposed=not value.operator.transposed)
                    read = inputs[0], runs.taken(turned, made[runs.source])
                    new = Value(value.name, operator, read)
            elif _is_last(value, uses):
                runs = _worthwhile(value, value, uses)
                if runs is not None:
                    new = runs.taken(value, made[runs.source])
            made[value] = new
            return new

        return rebuilt(network, change)


@dataclass(frozen=True, eq=False)
class _Runs:
    """A value as runs of neighbours of another.

    Attributes:
        source: The other value.
        size: The numbers of a run.
        places: The run of the source that each run of the value is.
    """

    source: Value
    size: int
    places: Places

    @classmethod
    def of(cls, source: Value, numbers: Places) -> _Runs:
        """The longest runs.

        Args:
            source: The value that the numbers are of.
            numbers: The place of each number in the source.
        """
        flat = numbers.reshape(-1)
        goes_on = flat[1:] == np.where(flat[:-1] == _ZERO, _ZERO, flat[:-1] + 1)
        starts = np.concatenate([[0], np.flatnonzero(~goes_on) + 1])
        places = flat[starts]
        size = math.prod(source.shape)
        run = int(np.gcd.reduce([flat.size, size, *starts, *places[places != _ZERO]]))
        found = flat[::run]
        return cls(source, run, np.where(found == _ZERO, _ZERO, found // run))

    @property
    def copies(self) -> int:
        """The time of the ``Take``, in copies of one number."""
        padded = math.prod(self.source.shape) if (self.places == _ZERO).any() else 0
        return padded + len(self.places) * (self.size + _RUN)

    def taken(self, value: Value, source: Value) -> Value:
        """The value, taken at once out of what the source has become."""
        name, count = value.name, math.prod(source.shape) // self.size
        rows = Value(f"{name}/runs", Reshape((count, self.size)), (source,))
        if (self.places == _ZERO).any():
            zeros = Value(f"{name}/zeros", Constant(np.zeros((1, self.size), np.float32)))
            rows = Value(f"{name}/padded", Concatenate(0), (rows, zeros))
        places = np.where(self.places == _ZERO, count, self.places)
        found = Value(f"{name}/taken", Take(0, tuple(places.tolist())), (rows,))
        return Value(name, Reshape(value.shape), (found,))


def _is_last(value: Value, uses: Uses) -> bool:
    """Whether it is a move that something else than a move reads."""
    return is_move(value) and (value in uses.shown or not all(map(is_move, uses.readers[value])))


def _turned(value: Value) -> Value:
    """The second factor of a product with its last two axes in the other order."""
    *others, row, column = range(len(value.shape))
    return Value(f"{value.name}/turned", Transpose((*others, column, row)), (value,))


def _worthwhile(value: Value, last: Value, uses: Uses) -> _Runs | None:
    """The runs of a value, if taking them is faster than the moves that make it.

    Args:
        value: The last of several moves, or what only orders the axes of that otherwise.
        last: The last of the moves that are there now.
        uses: The users of each value.
    """
    if not is_move(last):
        return None
    moves = _moves_before(last)
    alone = _only_for(last, moves, uses)
    if not any(map(_is_scattered, alone)):
        return None
    read = {each for move in moves for each in move.inputs} - {*moves}
    varying = [each for each in read if not each.is_constant]
    if len(varying) != 1 or not all(map(_is_zero, read - {*varying})):
        return None
    source = varying[0]
    whole = np.arange(math.prod(source.shape)).reshape(source.shape)
    runs = _Runs.of(source, _places(value, {source: whole}))
    is_faster = runs.copies <= _WORTHWHILE * sum(map(_copies, alone))
    return runs if is_faster and runs.size >= _RUN else None


def _moves_before(value: Value) -> dict[Value, None]:
    """A move and all moves that it is made by, the last first."""
    found = {value: None}
    for each in (waiting := [value]):
        for read in each.inputs:
            if is_move(read) and read not in found:
                found[read] = None
                waiting.append(read)
    return found


def _only_for(value: Value, moves: Iterable[Value], uses: Uses) -> set[Value]:
    """Those of the moves before a value that nothing else needs."""
    found = {value}
    known = 0
    while known < len(found):
        known = len(found)
        for each in moves:
            if each not in uses.shown and found.issuperset(uses.readers[each]):
                found.add(each)
    return found


def _is_scattered(move: Value) -> bool:
    """Whether it takes more than two slices could."""
    if not isinstance(move.operator, Take):
        return False
    slices = 1 + np.count_nonzero(np.diff(move.operator.places) != 1)
    return bool(slices > _SLICES)


def _is_zero(value: Value) -> bool:
    return isinstance(value.operator, Constant) and not value.operator.values.any()


def _places(value: Value, known: dict[Value, Places]) -> Places:
    """The place in the source of each number of a value.

    Args:
        value: The value.
        known: The places of some values, the source's among them; gets those of others.
    """
    if value not in known:
        read = [_places(each, known) for each in value.inputs]
        if not read:
            known[value] = np.full(value.shape, _ZERO)
        elif isinstance(value.operator, Concatenate):
            known[value] = np.concatenate(read, axis=value.operator.axis)
        else:
            known[value] = moved(value, *read)
    return known[value]


def _copies(move: Value) -> int:
    """The time of a move, in copies of one number."""
    match move.operator:
        case Reshape():
            return 0
        case Take(axis=axis):
            run = math.prod(move.shape[axis + 1 :])
        case Transpose(axes=axes):
            kept = 0
            while kept < len(axes) and axes[-1 - kept] == len(axes) - 1 - kept:
                kept += 1
            run = math.prod(move.shape[len(axes) - kept :])
        case _:
            run = _RUN
    return math.prod(move.shape) * (1 + _RUN // run)


PLUGIN = TakeOnce()
