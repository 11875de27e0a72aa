"""The part of its input that an operator needs for a part of its result: a rule an operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vitedge.network.network import Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Linear,
    Mean,
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


class Part(NamedTuple):
    """Some places along an axis, as of ``Take``."""

    axis: int
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Work:
    """The making of a part of a value.

    Attributes:
        operator: The operator that makes it; None if the part is the one input itself.
        inputs: The values that it is made of; with a part, that part alone.
    """

    operator: Operator | None
    inputs: tuple[tuple[Value, Part | None], ...]


def of_part(value: Value, part: Part) -> Work | None:
    """The making of a part of a value out of parts; None where all of the value is needed."""
    axis, rank = part.axis, len(value.shape)
    operator = value.operator
    match operator:
        case Constant(values=values):
            return Work(Constant(values.take(part.places, axis)), ())
        case Norm() | Softmax() | Linear():
            return _of_one(value, part) if axis < rank - 1 else None
        case Activate():
            return _of_one(value, part)
        case Transpose(axes=axes):
            return _of_one(value, part._replace(axis=axes[axis]))
        case Mean(axis=gone):
            return _of_one(value, part._replace(axis=axis if axis < gone else axis + 1))
        case Add() | Multiply():
            return Work(
                operator, tuple((each, _aligned(value, each, part)) for each in value.inputs)
            )
        case Product(transposed=transposed):
            a, b = value.inputs
            if axis == rank - 1:
                columns = part._replace(axis=rank - 2 if transposed else rank - 1)
                return Work(operator, ((a, None), (b, columns)))
            return Work(operator, ((a, part), (b, part if axis < rank - 2 else None)))
        case Reshape(to=to):
            return _of_reshaped(value, to, part)
        case Take() as take:
            return _of_taken(value, take, part)
        case Concatenate() as concatenate:
            return _of_concatenated(value, concatenate, part)
        case _:
            return None


def _of_one(value: Value, part: Part) -> Work:
    """The same part of each input of the value; counts of a softmax are needed whole."""
    first, *others = value.inputs
    return Work(value.operator, ((first, part), *((each, None) for each in others)))


def _aligned(value: Value, read: Value, part: Part) -> Part | None:
    """The part of an input whose axes may be fewer, or repeated."""
    axis = part.axis - (len(value.shape) - len(read.shape))
    is_there = axis >= 0 and read.shape[axis] == value.shape[part.axis]
    return part._replace(axis=axis) if is_there else None


def _of_reshaped(value: Value, to: Shape, part: Part) -> Work | None:
    """The work, if the axis is one of the reshaped value as well."""
    read = value.inputs[0].shape
    for axis, size in enumerate(read):
        if size == to[part.axis] and math.prod(read[:axis]) == math.prod(to[: part.axis]):
            few = Reshape((*to[: part.axis], len(part.places), *to[part.axis + 1 :]))
            return Work(few, ((value.inputs[0], part._replace(axis=axis)),))
    return None


def _of_taken(value: Value, take: Take, part: Part) -> Work:
    if take.axis != part.axis:
        return _of_one(value, part)
    places = tuple(take.places[place] for place in part.places)
    return Work(None, ((value.inputs[0], Part(take.axis, places)),))


def _of_concatenated(value: Value, operator: Concatenate, part: Part) -> Work | None:
    """Along the axis itself, of those inputs that the part has places in."""
    if operator.axis != part.axis:
        return Work(operator, tuple((each, part) for each in value.inputs))
    sizes = [each.shape[part.axis] for each in value.inputs]
    starts = np.cumsum([0, *sizes])
    holders = [int(np.searchsorted(starts, place, "right")) - 1 for place in part.places]
    if holders != sorted(holders):
        return None
    inputs = []
    for number in dict.fromkeys(holders):
        places = tuple(
            int(place - starts[number])
            for place, holder in zip(part.places, holders, strict=True)
            if holder == number
        )
        is_whole = places == tuple(range(sizes[number]))
        inputs.append((value.inputs[number], None if is_whole else Part(part.axis, places)))
    return Work(operator if len(inputs) > 1 else None, tuple(inputs))
