"""The part of a network whose images a runtime may keep with their channels first."""

from __future__ import annotations

from collections.abc import Callable

from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Convolution,
    Linear,
    Multiply,
    Pool,
    Resize,
    Standardize,
)
from vitedge.network.structure import Readers, readers


def images_of_convolutions(
    network: Network, is_convolved: Callable[[Value], bool]
) -> frozenset[Value]:
    """The images ``(H, W, C)`` that convolutions, pools and resizes make, and what stays so.

    What works on each number by itself keeps the layout in which it gets an image, and a linear
    layer on the channels is a pointwise convolution. Norms of the channels and whatever else reads
    tokens want the channels last. Pixels are standardized where convolutions alone read them.

    Args:
        network: The network.
        is_convolved: Whether the runtime convolves a convolution, or a linear layer whose input is
            such an image; is asked in the order of computation.
    """
    found: set[Value] = set()
    read = readers(network)
    for value in network.values:
        if len(value.shape) == 3 and _is_such(value, found, read, is_convolved):
            found.add(value)
    return frozenset(found)


def _is_such(
    value: Value, found: set[Value], read: Readers, is_convolved: Callable[[Value], bool]
) -> bool:
    # What is smaller than the image, such as a gate for each channel, is cheap to turn.
    live = [each for each in value.inputs if not each.is_constant]
    images = [each for each in live if each.shape[:2] == value.shape[:2]]
    ranks = {len(each.shape) for each in live}
    are_such = bool(images) and found.issuperset(images) and ranks == {3}
    match value.operator:
        case Pool() | Resize():
            return True
        case Convolution():
            return is_convolved(value)
        case Standardize():
            return all(isinstance(each.operator, Convolution) for each in read[value])
        case Activate() | Add() | Multiply():
            return are_such
        case Concatenate(axis=axis):
            return are_such and axis == 2 and len(images) == len(value.inputs)
        case Linear():
            return are_such and is_convolved(value)
        case _:
            return False
