"""Questions of rewrites, the quantizer and training: who reads what, and through what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    MOVES,
    Activate,
    Add,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Norm,
    Pixels,
    Product,
    Reshape,
    Softmax,
    Standardize,
    Take,
    Transpose,
)

Readers: TypeAlias = Mapping[Value, tuple[Value, ...]]
"""The values that read each value, in the order of computation; one that reads it twice, twice."""


def readers(network: Network) -> Readers:
    """The readers of each value of the network."""
    found: dict[Value, list[Value]] = {value: [] for value in network.values}
    for value in network.values:
        for each in value.inputs:
            found[each].append(value)
    return {value: tuple(each) for value, each in found.items()}


def is_move(value: Value) -> bool:
    """Whether it only moves numbers of what it reads."""
    return isinstance(value.operator, MOVES)


def moved(value: Value, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers in the shape of what it reads, where it moves them; it is a move of one input."""
    match value.operator:
        case Reshape(to=to):
            return numbers.reshape(to)
        case Transpose(axes=axes):
            return numbers.transpose(axes)
        case Take(axis=axis, places=places):
            return numbers.take(places, axis)
        case Concatenate():
            return numbers
        case _:
            raise AssertionError(f"{value} is not a move")


def source_of(value: Value) -> Value:
    """The value behind moves that have one input: the first that is not such a move."""
    while is_move(value) and len(value.inputs) == 1:
        value = value.inputs[0]
    return value


def reads_image(value: Value) -> bool:
    """Whether it reads pixels, standardized or not, through moves alone: the first layer does."""
    source = source_of(value.inputs[0]) if value.inputs else value
    return isinstance(source.operator, Pixels | Standardize)


def after_layers(network: Network) -> frozenset[Value]:
    """The values that a linear layer or a convolution stands before, or is."""
    found: set[Value] = set()
    for value in network.values:
        if isinstance(value.operator, Linear | Convolution) or found.intersection(value.inputs):
            found.add(value)
    return frozenset(found)


def before_products(network: Network) -> frozenset[Value]:
    """The values that a product of two values, such as attention has, depends on."""
    found: set[Value] = set()
    for value in reversed(network.values):
        if isinstance(value.operator, Product) or value in found:
            found.update(value.inputs)
    return frozenset(found)


def reads_raw_pixels(layer: Value) -> bool:
    """Whether a layer's input is integers already, in the pixels' own range."""
    return isinstance(source_of(layer.inputs[0]).operator, Pixels)


def weights(value: Value) -> int:
    """The size of the weight of a linear layer or a convolution; 0 of all else."""
    layer = value.operator
    return layer.weight.size if isinstance(layer, Linear | Convolution) else 0


def is_inner(value: Value) -> bool:
    """Whether a linear layer is neither the first, which reads pixels, nor one of the head.

    What a head reads is one vector, without an axis of tokens.
    """
    return isinstance(value.operator, Linear) and len(value.shape) > 1 and not reads_image(value)


def feeds_product(value: Value, read: Readers) -> bool:
    """Whether what a value makes goes, but for moves and norms, into a product of two values."""
    return any(
        isinstance(each.operator, Product)
        or ((isinstance(each.operator, Norm) or is_move(each)) and feeds_product(each, read))
        for each in read[value]
    )


def feeds_activation(value: Value, read: Readers) -> bool:
    """Whether a non-linearity reads the value."""
    return any(isinstance(each.operator, Activate) for each in read[value])


def layers_on(value: Value, read: Readers) -> tuple[Value, ...]:
    """The linear layers that read a value, in the order of computation."""
    return tuple(each for each in read[value] if isinstance(each.operator, Linear))


@dataclass(frozen=True)
class Attention:
    """Queries, keys and values that meet: ``softmax(factor * q kᵀ + terms) v``.

    Attributes:
        queries: First factor of the scores.
        keys: Second factor of the scores.
        values: Second factor of what is mixed.
        scores: The product of queries and keys.
        shares: The output of the softmax.
        mixed: The product of shares and values.
        between: The operators between scores and softmax, in order: sums and products with other
            values.
    """

    queries: Value
    keys: Value
    values: Value
    scores: Value
    shares: Value
    mixed: Value
    between: tuple[Value, ...]


def attentions(network: Network) -> tuple[Attention, ...]:
    """Every softmax whose shares, and nothing else, are multiplied by values, in order."""
    read = readers(network)
    shown = set(network.outputs.values())
    found = []
    for shares in network.values:
        if not isinstance(shares.operator, Softmax) or shares in shown or len(read[shares]) != 1:
            continue
        (mixed,) = read[shares]
        scores, between = _scores(shares.inputs[0])
        if scores is None or not isinstance(mixed.operator, Product):
            continue
        if mixed.operator.transposed or mixed.inputs[0] is not shares:
            continue
        queries, keys = scores.inputs
        found.append(
            Attention(queries, keys, mixed.inputs[1], scores, shares, mixed, tuple(between))
        )
    return tuple(found)


def _scores(value: Value) -> tuple[Value | None, list[Value]]:
    """The product of queries and transposed keys that a softmax reads, and what is between."""
    between: list[Value] = []
    while not isinstance(value.operator, Product):
        live = [each for each in value.inputs if not isinstance(each.operator, Constant)]
        if isinstance(value.operator, Add | Multiply) and len(live) == 1:
            between.insert(0, value)
            value = live[0]
        else:
            return None, []
    return (value, between) if value.operator.transposed else (None, [])
