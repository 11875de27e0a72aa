"""A network some of whose operators are replaced by others that make more or fewer of something.

The new sizes are carried to the end: moves are cut anew wherever their inputs grow or shrink. What
would have to be guessed is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vitedge.images.preprocess import Preprocessing
from vitedge.network.network import Network, Value, needed
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Linear,
    Multiply,
    Norm,
    Operator,
    Reshape,
    Shape,
    Take,
)


def refitted(
    network: Network,
    operators: Mapping[Value, Operator],
    *,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    grids: Mapping[Shape, Shape] | None = None,
) -> Network:
    """The network with other operators for some values, and moves that fit what these make.

    Args:
        network: The network.
        operators: The new operators, by the value that each is to make.
        preprocessing: The preprocessing for other pixels; None is the network's.
        labels: The labels for other logits; None is the network's.
        grids: New rows and columns of what has these: how one long axis is cut into the two.

    Raises:
        ValueError: A size cannot follow.
    """
    new: dict[Value, Value] = {}
    leading: dict[Value, int] = {}
    for value in network.values:
        inputs = tuple(new[each] for each in value.inputs)
        operator = operators.get(value)
        if operator is None:
            operator = _following(value, inputs, leading, grids or {})
        same = operator is value.operator and inputs == value.inputs
        new[value] = value if same else Value(value.name, operator, inputs)
        leading[value] = _leading(value, inputs, leading)
    outputs = {name: new[value] for name, value in network.outputs.items()}
    return replace(
        network,
        values=needed(new.values(), outputs.values()),
        outputs=outputs,
        preprocessing=network.preprocessing if preprocessing is None else preprocessing,
        labels=network.labels if labels is None else tuple(labels),
    )


def _following(
    value: Value,
    inputs: tuple[Value, ...],
    leading: Mapping[Value, int],
    grids: Mapping[Shape, Shape],
) -> Operator:
    """The value's operator for inputs that may have other sizes."""
    match value.operator:
        case Reshape(to=to) if inputs[0].shape != value.inputs[0].shape:
            return Reshape(_reshaped(value, to, inputs[0].shape, grids))
        case Take(axis=axis, places=places):
            old, new = value.inputs[0].shape[axis], inputs[0].shape[axis]
            if old != new and places == tuple(range(places[0], old)):
                return Take(axis, tuple(range(places[0], new)))
            if old != new and (axis or max(places) >= leading[value.inputs[0]]):
                raise ValueError(f"'{value.name}' takes places that another size moves")
    return value.operator


def _reshaped(value: Value, to: Shape, new: Shape, grids: Mapping[Shape, Shape]) -> Shape:
    """The shape in place of ``to`` where the input is ``new``.

    Of a run of axes that changes, the first takes the change; a grid becomes the new grid.
    """
    old = value.inputs[0].shape
    made: list[int] = []
    for inputs, outputs in _runs(old, to):
        run = to[outputs]
        if old[inputs] == new[inputs]:
            made += run
        elif run in grids:
            made += grids[run]
        else:
            size, rest = math.prod(new[inputs]), math.prod(run[1:])
            if size % rest:
                raise ValueError(f"'{value.name}' cannot cut {new} as it cut {old} into {to}")
            made += [size // rest, *run[1:]]
    return tuple(made)


def _runs(old: Shape, to: Shape) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes of both shapes that hold as many numbers."""
    start = first = 0
    while start < len(old) or first < len(to):
        end, last = min(start + 1, len(old)), min(first + 1, len(to))
        while (left := math.prod(old[start:end])) != (right := math.prod(to[first:last])):
            end, last = (end + 1, last) if left < right else (end, last + 1)
        yield slice(start, end), slice(first, last)
        start, first = end, last


def _leading(value: Value, inputs: Sequence[Value], leading: Mapping[Value, int]) -> int:
    """The number of first tokens that no other size moves: those put before what changes."""
    match value.operator:
        case Concatenate(axis=0):
            count = 0
            for old, new in zip(value.inputs, inputs, strict=True):
                if old.shape != new.shape:
                    break
                count += old.shape[0]
            return count
        case Linear() | Norm() | Activate() | Add() | Multiply():
            alike = [each for each in value.inputs if each.shape[:-1] == value.shape[:-1]]
            return max((leading[each] for each in alike), default=0)
        case _:
            return 0
