"""Lets the channels that rotary positions turn together lie in two halves.

Rotary positions turn pairs of channels of q and k: ``x * cos + swapped(x) * sin``, where
``swapped`` changes the places of each pair. EVA-02 and others pair neighbours, 0 and 1, 2 and 3, so
runtimes gather number by number. A score is a sum over channels, the same in any order, so q and k
may have theirs in another one: first the first of each pair, then the others. What swaps pairs is
then two slices. The layers that make q and k take their columns in the new order, and so do norms
and constants on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value, rebuilt
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
    Take,
    Transpose,
)

Order: TypeAlias = npt.NDArray[np.int64]
"""The old place of each channel of a head."""


class HalvePairs:
    """Rotary positions by two slices, in place of a gather."""

    name = "halve-pairs"
    order = 55
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        uses = Uses.of(network)
        orders: dict[Value, Order] = {}
        for value in network.values:
            if value.operator == Product(transposed=True):
                orders |= _orders(value, uses)
        constants: dict[tuple[Value, bytes], Value] = {}

        def in_order(read: Value, order: Order) -> Value:
            if not isinstance(read.operator, Constant) or read.shape[-1:] != order.shape:
                return read
            key = read, order.tobytes()
            if key not in constants:
                numbers = np.ascontiguousarray(read.operator.values[..., order])
                name = f"{read.name}/halves/{len(constants)}"
                constants[key] = Value(name, Constant(numbers))
            return constants[key]

        def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
            if value not in orders:
                return None
            order = orders[value]
            read = tuple(in_order(each, order) for each in inputs)
            return Value(value.name, _ordered(value, order), read)

        return rebuilt(network, change)


def _orders(scores: Value, uses: Uses) -> dict[Value, Order]:
    """The order of the channels of each value that makes queries and keys; none if they stay."""
    heads: dict[Value, int] = {}
    if not all(_collect(side, 1, heads) for side in scores.inputs):
        return {}
    for value in heads:
        if value in uses.shown or not {scores, *heads}.issuperset(uses.readers[value]):
            return {}
    order, width = _halves(heads), scores.inputs[0].shape[-1]
    if order is None or len(order) != width:
        return {}
    return {
        value: np.concatenate([order + width * head for head in range(count)])
        for value, count in heads.items()
    }


def _collect(value: Value, count: int, heads: dict[Value, int]) -> bool:
    """Whether all between a value and its layers is understood.

    Args:
        value: Queries or keys, or a value that these are made of.
        count: The heads that lie side by side on its last axis.
        heads: Gets the heads of each value.
    """
    if value in heads:
        return heads[value] == count
    heads[value] = count
    last, read = len(value.shape) - 1, value.inputs
    match value.operator:
        case Linear():
            return True
        case Activate() | Norm() | Take():
            if read[0].shape[-1:] != value.shape[-1:]:
                return False
        case Add() | Multiply():
            # A constant may be the same for all channels.
            read = tuple(each for each in read if not each.is_constant)
            if any(each.shape[-1:] != value.shape[-1:] for each in read):
                return False
        case Concatenate(axis=axis) if axis != last:
            read = tuple(each for each in read if not each.is_constant)
        case Transpose(axes=axes) if axes[-1] == last:
            pass
        case Reshape(to=to):
            (before,) = read
            if to[-2:] == (before.shape[-1] // to[-1], to[-1]):
                count *= to[-2]
            elif to[-1] != before.shape[-1]:
                return False
        case _:
            return False
    return all(_collect(each, count, heads) for each in read)


def _halves(values: Iterable[Value]) -> Order | None:
    """The order in which all swaps of pairs change halves; None if there are no such swaps."""
    found = set()
    for value in values:
        match value.operator:
            case Take(axis=axis, places=places) if axis == len(value.shape) - 1:
                found.add(places)
    if len(found) != 1:
        return None
    (places,) = found
    first = [place for place, other in enumerate(places) if place < other]
    order = np.asarray([*first, *(places[place] for place in first)])
    are_pairs = sorted(order) == list(range(len(places)))
    is_in_halves = are_pairs and np.array_equal(order, np.arange(len(order)))
    return order if are_pairs and not is_in_halves else None


def _ordered(value: Value, order: Order) -> Operator:
    """The operator that makes the value with its channels in the new order, of such inputs."""
    match value.operator:
        case Linear(weight=weight, bias=bias):
            return Linear(np.ascontiguousarray(weight[:, order]), bias[order])
        case Norm(gamma=gamma, beta=beta) as norm:
            return replace(norm, gamma=gamma[order], beta=beta[order])
        case Take(axis=axis, places=places) as take if axis == len(value.shape) - 1:
            new_place = np.argsort(order)
            return replace(take, places=tuple(new_place[list(places)][order].tolist()))
        case operator:
            return operator


PLUGIN = HalvePairs()
