"""Linear layers that read the same input, as one wide product; and how formats pack 4 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Array, Linear
from vitedge.quantize import IntegerWeight, Recipe


def packed_nibbles(values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """4-bit integers in C order, two a byte, the first in the lower half."""
    nibbles = np.ascontiguousarray(values).reshape(-1).view(np.uint8) & np.uint8(15)
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    packed: npt.NDArray[np.uint8] = nibbles[0::2] | nibbles[1::2] << np.uint8(4)
    return packed


class Joined(NamedTuple):
    """Several linear layers on the same input, as one wide layer.

    Attributes:
        name: Theirs, with a + between.
        weight: float32 ``(inputs, outputs)``, or its integers.
        bias: float32 ``(outputs,)``.
    """

    name: str
    weight: IntegerWeight | Array
    bias: Array


def side_by_side(layers: Mapping[str, Linear], recipe: Recipe) -> Joined:
    """Joins layers that the recipe treats alike: all float, or all integer."""
    integers = [recipe.weights[name] for name in layers if name in recipe.weights]
    weight: IntegerWeight | Array
    if len(integers) == len(layers):
        zeros = [each.zero for each in integers if each.zero is not None]
        weight = IntegerWeight(
            values=np.concatenate([each.values for each in integers], axis=1),
            scale=np.concatenate([each.scale for each in integers], axis=-1),
            bits=integers[0].bits,
            zero=np.concatenate(zeros, axis=-1) if zeros else None,
        )
    else:
        weight = np.concatenate([layer.weight for layer in layers.values()], axis=1)
    bias = np.concatenate([layer.bias for layer in layers.values()])
    return Joined("+".join(layers), weight, bias)
