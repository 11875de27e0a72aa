"""The channels of a layer in their new places, behind moves and products of two values.

A route is found by moving numbers: each output of a linear layer carries its own number through
the moves, and what arrives is read off. So heads, windows and repeated keys need no rule of their
own. A route has no branch: what stands on it is read by nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value
from vitedge.network.operators import Linear, Product
from vitedge.network.structure import is_move, moved

Numbers: TypeAlias = npt.NDArray[np.int64]

Channels: TypeAlias = slice | Numbers
"""Some outputs of a layer; a slice where they are neighbours."""


@dataclass(frozen=True, eq=False)
class Mix:
    """A product that mixes tokens of what a linear layer made, and the layers that read it.

    Attributes:
        product: The product; its second factor is what is mixed.
        layer: The linear layer that makes what is mixed.
        readers: The linear layers that read the mixed tokens, in the order of computation.
        places: The output of ``layer`` at each input of the readers, ``(inputs,)``.
        heads: The outputs of ``layer`` that are mixed together; empty where they overlap.
    """

    product: Value
    layer: Value
    readers: tuple[Value, ...]
    places: Numbers
    heads: tuple[Numbers, ...]

    @property
    def is_one_to_one(self) -> bool:
        """Whether each output of the layer stands at one input of the readers."""
        return bool(self.heads) and len(self.places) == len(np.unique(self.places)) == _width(
            self.layer
        )

    @property
    def is_straight(self) -> bool:
        """Whether the readers' inputs are the layer's outputs in their order."""
        return np.array_equal(self.places, np.arange(_width(self.layer)))


@dataclass(frozen=True, eq=False)
class Meeting:
    """A product of queries and keys that two linear layers made, through moves alone.

    Attributes:
        product: The scores.
        queries: The linear layer that makes the queries.
        keys: The linear layer that makes the keys.
        heads: Outputs of both whose products are summed up; empty where heads overlap.
    """

    product: Value
    queries: Value
    keys: Value
    heads: tuple[tuple[Numbers, Numbers], ...]


def mixes(network: Network) -> tuple[Mix, ...]:
    """All products of which ``Mix`` tells, in the order of computation."""
    uses = Uses.of(network)
    found = (_mix(value, uses) for value in network.values)
    return tuple(each for each in found if each is not None)


def meetings(network: Network) -> tuple[Meeting, ...]:
    """All products of which ``Meeting`` tells, in the order of computation."""
    uses = Uses.of(network)
    found = []
    for value in network.values:
        match value.operator:
            case Product(transposed=True):
                queries, keys = (_traced(each, uses) for each in value.inputs)
                if queries is not None and keys is not None:
                    found.append(_meeting(value, *queries, *keys))
    return tuple(found)


def keys_layer(product: Value, uses: Uses) -> Value | None:
    """The linear layer that makes the second factor of a transposed product by moves alone."""
    traced = _traced(product.inputs[1], uses)
    return None if traced is None else traced[0]


def channels(numbers: Numbers) -> Channels:
    """Numbers of channels as a slice where they are neighbours."""
    first = int(numbers[0])
    are_neighbours = np.array_equal(numbers, np.arange(first, first + len(numbers)))
    return slice(first, first + len(numbers)) if are_neighbours else numbers


def _width(layer: Value) -> int:
    return layer.shape[-1]


def _mix(value: Value, uses: Uses) -> Mix | None:
    if value.operator != Product(transposed=False):
        return None
    traced = _traced(value.inputs[1], uses)
    if traced is None:
        return None
    layer, by_head = traced
    reached: dict[Value, Numbers] = {}
    mixed = np.broadcast_to(by_head[..., None, :], value.shape)
    if not _follow(value, mixed, uses, reached) or not reached:
        return None
    places, *others = reached.values()
    if any(not np.array_equal(places, each) for each in others):
        return None
    heads = tuple(dict.fromkeys(map(tuple, by_head.reshape(-1, by_head.shape[-1]).tolist())))
    numbers = tuple(np.asarray(head) for head in heads)
    return Mix(value, layer, tuple(reached), places, numbers if _covers(numbers, layer) else ())


def _meeting(product: Value, queries: Value, q: Numbers, keys: Value, k: Numbers) -> Meeting:
    rows = (each.reshape(-1, each.shape[-1]).tolist() for each in (q, k))
    pairs = dict.fromkeys((tuple(a), tuple(b)) for a, b in zip(*rows, strict=True))
    heads = tuple((np.asarray(a), np.asarray(b)) for a, b in pairs)
    apart = _covers([a for a, _ in heads], queries) and _covers([b for _, b in heads], keys)
    return Meeting(product, queries, keys, heads if apart else ())


def _covers(heads: tuple[Numbers, ...] | list[Numbers], layer: Value) -> bool:
    """Whether each output of the layer is in exactly one head."""
    return np.array_equal(np.sort(np.concatenate(heads)), np.arange(_width(layer)))


def _traced(factor: Value, uses: Uses) -> tuple[Value, Numbers] | None:
    """The layer that makes a factor of a product, and its outputs there ``(..., width)``.

    None where something but moves is between, or where tokens have not the same outputs.
    """
    moves: list[Value] = []
    value = factor
    while uses.sole_reader(value) is not None and is_move(value) and len(value.inputs) == 1:
        moves.append(value)
        value = value.inputs[0]
    if uses.sole_reader(value) is None or not isinstance(value.operator, Linear):
        return None
    numbers: Numbers = np.broadcast_to(np.arange(_width(value)), value.shape)
    for each in reversed(moves):
        numbers = moved(each, numbers)
    first: Numbers = numbers[..., 0, :]
    return (value, first) if (numbers == first[..., None, :]).all() else None


def _follow(value: Value, numbers: Numbers, uses: Uses, reached: dict[Value, Numbers]) -> bool:
    """Whether linear layers alone read a value behind moves; those go into ``reached``."""
    if value in uses.shown:
        return False
    for each in uses.readers[value]:
        if isinstance(each.operator, Linear):
            vectors = numbers.reshape(-1, numbers.shape[-1])
            if not (vectors == vectors[0]).all():
                return False
            reached[each] = vectors[0]
            continue
        if not is_move(each) or len(each.inputs) > 1:
            return False
        if not _follow(each, moved(each, numbers), uses, reached):
            return False
    return True
