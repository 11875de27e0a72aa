"""The routes of a value's channels: who uses a value, and who reads its vectors unmixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Concatenate,
    Constant,
    Mean,
    Merge,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    Take,
    Transpose,
)
from vitedge.network.structure import Readers, readers


@dataclass(frozen=True, eq=False)
class Uses:
    """The users of each value of a network.

    Attributes:
        readers: The values that read each value.
        shown: The outputs: the outside world reads them.
    """

    readers: Readers
    shown: frozenset[Value]

    @classmethod
    def of(cls, network: Network) -> Uses:
        """The routes of all values of a network."""
        return cls(readers(network), frozenset(network.outputs.values()))

    def sole_reader(self, value: Value) -> Value | None:
        """The one value that reads this one, once; None where nothing else or more reads it."""
        found = self.readers[value]
        return found[0] if len(found) == 1 and value not in self.shown else None


def vectors_of(value: Value) -> tuple[Value, ...]:
    """The inputs whose vectors it may be made of: all, but for what says how tokens are merged."""
    merges = isinstance(value.operator, Merge) or takes_means(value)
    return value.inputs[1:2] if merges else value.inputs


def takes_means(value: Value) -> bool:
    """Whether a product makes each vector the mean of some of those that it reads."""
    if value.operator != Product() or not isinstance(value.inputs[0].operator, Constant):
        return False
    sums = value.inputs[0].operator.values.sum(axis=-1)
    return bool(np.allclose(sums, 1, rtol=0, atol=1e-6))


def passes_vectors(value: Value, width: int) -> bool:
    """Whether a value is made of whole vectors of ``width`` channels of what it reads.

    An affine map of each such vector may as well come before it: it moves vectors, or takes means
    of them. Vectors that stand behind one another along the last axis count one by one.
    """
    if isinstance(value.operator, Merge) or takes_means(value):
        return value.shape[-1] % width == 0
    sizes = [each.shape[-1] if each.shape else 0 for each in (value, *value.inputs)]
    if not value.inputs or any(size == 0 or size % width for size in sizes):
        return False
    last = len(value.inputs[0].shape) - 1
    match value.operator:
        case Take(axis=axis) | Mean(axis=axis):
            return axis != last
        case Transpose(axes=axes):
            return axes[-1] == last
        case Pool(kind=kind):
            return kind is PoolKind.AVERAGE
        case Reshape() | Concatenate() | Resize():
            return True
        case _:
            return False


def readers_of_vectors(value: Value, uses: Uses) -> tuple[Value, ...] | None:
    """The readers of the vectors of a value's channels, behind all that passes them on whole.

    A concatenation passes them on where every part of it is such vectors.

    Returns:
        Each reader once; None where an output shows the vectors.
    """
    width = value.shape[-1]
    passed, unseen = {value: None}, [value]
    while unseen:
        for each in uses.readers[unseen.pop()]:
            is_whole = passed.keys() >= set(vectors_of(each)) and passes_vectors(each, width)
            if is_whole and each not in passed:
                passed[each] = None
                unseen.append(each)
    if passed.keys() & uses.shown:
        return None
    found = (reader for each in passed for reader in uses.readers[each])
    return tuple(dict.fromkeys(reader for reader in found if reader not in passed))
