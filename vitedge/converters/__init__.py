"""Writing artefacts. A module in this package that ends ``PLUGIN = ...`` is a converter.

Packages outside may add theirs under the entry point group ``vitedge.converters``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata
from vitedge.errors import ConversionError, PrecisionError
from vitedge.files.plugins import discover
from vitedge.network.network import Network
from vitedge.network.operators import Array, Linear
from vitedge.quantize import Activations, IntegerWeight, Recipe
from vitedge.rewrite.learnt_grid import Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision, precisions


class Draft(Protocol):
    """An artefact in memory, complete but for its metadata."""

    def save(self, path: Path, metadata: Metadata) -> None:
        """Writes the file or files with the metadata inside; may be called again.

        Raises:
            ConversionError: The format cannot hold it (too large).
            OSError: The disk refuses.
        """
        ...


class Converter(Protocol):
    """Emits the graph that one format's runtime executes fastest."""

    @property
    def format(self) -> Format:
        """The format that it writes."""
        ...

    @property
    def arithmetics(self) -> frozenset[Arithmetic]:
        """Where the format's runtime computes with integers: it has all precisions of these."""
        ...

    @property
    def refusals(self) -> Mapping[Precision, str]:
        """Why it lacks other precisions, and what to take in their place."""
        ...

    @property
    def activations(self) -> Activations:
        """How its runtime quantizes the inputs of int8 layers best."""
        ...

    @property
    def groups(self) -> Groups:
        """How 4-bit weights share scales: as finely as its runtime still multiplies fast."""
        ...

    @property
    def rewrites(self) -> tuple[str, ...]:
        """Rewrites beyond the default ones that make its float graphs faster or more accurate.

        They leave the inputs of all linear layers as they are.
        """
        ...

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> Draft:
        """Emits the graph: float32 pixels ``(batch, H, W, C)`` to each output ``(batch, ...)``.

        Args:
            network: The model, already rewritten; left unchanged. Its outputs are those of the
                file, under their names and in their order.
            recipe: Its precision and, for quantized ones, the integers.
            batch: Static batch size.

        Raises:
            ConversionError: The format lacks the precision, or cannot express the model; or there
                are several outputs and no float operators.
        """
        ...


@cache
def converters() -> tuple[Converter, ...]:
    """All converters, in the order of ``Format``."""
    found: list[Converter] = discover(__name__, __path__)
    return tuple(sorted(found, key=lambda converter: list(Format).index(converter.format)))


def precisions_of(converter: Converter) -> tuple[Precision, ...]:
    """The precisions that a format's runtime has."""
    return tuple(each for each in precisions() if each.row.arithmetic in converter.arithmetics)


def converter_for(target: Format, precision: Precision) -> Converter:
    """The converter to a format.

    Raises:
        PrecisionError: The format lacks the precision.
        ConversionError: No converter writes the format.
    """
    for converter in converters():
        if converter.format is not target:
            continue
        if precision in precisions_of(converter):
            return converter
        arithmetic = precision.row.arithmetic
        why = converter.refusals.get(precision, f"its runtime has no {arithmetic} arithmetic")
        raise PrecisionError(f"{target} has no {precision}: {why}")
    raise ConversionError(f"there is no converter to {target}")


def refuse_further_outputs(network: Network, recipe: Recipe) -> None:
    """Refuses all-integer artefacts of several outputs: one scale cannot serve them all.

    Raises:
        ConversionError: The recipe is all-integer, and there is more than one output.
    """
    if recipe.tensors and len(network.outputs) > 1:
        others = [name for name in network.outputs if name != "logits"]
        remedy = "leave out --features, or " if others == ["features"] else ""
        raise ConversionError(
            f"{recipe.precision} computes in integers alone, so its {', '.join(others)} would be "
            f"as coarse as its logits; {remedy}take fp32, fp16 or int8"
        )


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
