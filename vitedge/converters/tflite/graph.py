"""A TFLite graph under construction: the operators that need no layer, on tensors of any rank.

No tensor has more than four dimensions, the batch included. One that has more for the network lies
in fewer: the same numbers in the same order, some axes merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.tflite.merged_axes import (
    Axes,
    merged_for_broadcast,
    merged_for_transposition,
    swaps,
)
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.converters.token_merging import MergingEmitter
from vitedge.network.network import Network, Value
from vitedge.quantize import Recipe

MOST_AXES = 4


class TFLiteOperators(MergingEmitter[int]):
    """Moves, sums and products of TFLite; tensors are their numbers."""

    tokens_are_rows = True

    version_of_gather = 1
    """The least that has its type of numbers."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self.model = TFLiteModel()
        self._shared_integers: dict[tuple[int, ...], int] = {}
        self._seen: dict[int, tuple[Axes, int]] = {}

    # --- shapes

    def shape(self, x: int) -> Axes:
        """The shape that a tensor has for the network, with the batch."""
        return self._seen[x][0] if x in self._seen else self.model.shape(x)

    def as_it_lies(self, x: int) -> int:
        """The tensor of the file, which may have fewer axes than for the network."""
        return self._seen[x][1] if x in self._seen else x

    def seen_as(self, x: int, shape: Sequence[int]) -> int:
        """The tensor in the shape in which the network sees it; no operator."""
        x = self.as_it_lies(x)
        if tuple(shape) == self.model.shape(x):
            return x
        number = -2 - len(self._seen)  # -1 is what TFLite calls a missing input
        self._seen[number] = tuple(shape), x
        return number

    def lying(self, x: int, shape: Axes, name: str) -> int:
        """The tensor's numbers in this shape, in the file too."""
        x = self.as_it_lies(x)
        if shape == self.model.shape(x):
            return x
        options = {"table": "ReshapeOptions", "newShape": np.asarray(shape, np.int32)}
        return self.model.operator(
            "RESHAPE", [x, self.integers(shape)], shape, name=name, options=options
        )

    def _around(self, x: int, axis: int, name: str) -> tuple[int, int]:
        """A tensor, and where an axis of it is: of one with too many axes, all others merged."""
        shape = self.shape(x)
        if len(shape) <= MOST_AXES:
            return x, axis
        merged = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        return self.lying(x, merged, f"{name}/merged"), 1

    def by_last_axes(self, x: int, kept: int, name: str) -> int:
        """A tensor with its first axes merged where it has too many; the last ones are kept."""
        shape = self.shape(x)
        if len(shape) <= MOST_AXES:
            return x
        return self.lying(x, (math.prod(shape[:-kept]), *shape[-kept:]), f"{name}/merged")

    def reshape(self, x: int, shape: tuple[int, ...], name: str) -> int:
        """See ``Steps``; the same shape costs nothing."""
        if len(shape) > MOST_AXES:
            return self.seen_as(x, shape)  # what reads it says how it should lie
        return self.lying(x, shape, name)

    # --- moves

    def transpose(self, x: int, order: tuple[int, ...], name: str) -> int:
        """See ``Steps``."""
        shape = self.shape(x)
        made = tuple(shape[axis] for axis in order)
        if len(shape) <= MOST_AXES:
            return self._transposed(x, order, name)
        merged, turns = merged_for_transposition(shape, order)
        if len(merged) <= MOST_AXES:
            x = self._transposed(self.lying(x, merged, f"{name}/merged"), turns, name)
            return self.seen_as(x, made)
        for number, four in enumerate(swaps(merged, turns)):
            label = f"{name}/{number}"
            x = self._transposed(self.lying(x, four, f"{label}/merged"), (0, 2, 1, 3), label)
        return self.seen_as(x, made)

    def _transposed(self, x: int, order: tuple[int, ...], name: str) -> int:
        shape = [self.model.shape(x)[axis] for axis in order]
        options = {"table": "TransposeOptions"}
        return self.model.operator(
            "TRANSPOSE", [x, self.integers(order)], shape, name=name, options=options
        )

    def neighbours_along(self, x: int, axis: int, first: int, count: int, name: str) -> int:
        """See ``Emitter``."""
        made = replaced(self.shape(x), axis, count)
        x, axis = self._around(x, axis, name)
        shape = replaced(self.model.shape(x), axis, count)
        begin = replaced((0,) * len(shape), axis, first)
        inputs = [x, self.integers(begin), self.integers(shape)]
        options = {"table": "SliceOptions"}
        sliced = self.model.operator("SLICE", inputs, shape, name=name, options=options)
        return self.seen_as(sliced, made)

    def places_along(self, x: int, axis: int, places: tuple[int, ...], name: str) -> int:
        """See ``Emitter``."""
        made = replaced(self.shape(x), axis, len(places))
        x, axis = self._around(x, axis, name)
        shape = replaced(self.model.shape(x), axis, len(places))
        options = {"table": "GatherOptions", "axis": axis}
        inputs = [x, self.integers(places)]
        gathered = self.model.operator(
            "GATHER", inputs, shape, name=name, options=options, version=self.version_of_gather
        )
        return self.seen_as(gathered, made)

    def concatenate(self, value: Value, parts: list[int], axis: int) -> int:
        """See ``Steps``."""
        shapes = [self.shape(part) for part in parts]
        made = replaced(shapes[0], axis, sum(shape[axis] for shape in shapes))
        around = [self._around(part, axis, f"{value.name}/{at}") for at, part in enumerate(parts)]
        joined = self.joined([part for part, _ in around], around[0][1], value.name)
        return self.seen_as(joined, made)

    def joined(self, parts: list[int], axis: int, name: str) -> int:
        """Tensors one behind the other, as they lie."""
        shapes = [self.model.shape(part) for part in parts]
        return self.model.operator(
            "CONCATENATION",
            parts,
            replaced(shapes[0], axis, sum(shape[axis] for shape in shapes)),
            name=name,
            options={"table": "ConcatenationOptions", "axis": axis},
        )

    # --- arithmetic

    def add(self, value: Value, a: int, b: int) -> int:
        """See ``Steps``."""
        return self.of_two("ADD", a, b, value.name)

    def multiply(self, value: Value, a: int, b: int) -> int:
        """See ``Steps``."""
        return self.of_two("MUL", a, b, value.name)

    def scale(self, value: Value, x: int, factor: float) -> int:
        """See ``Steps``."""
        return self.scaled(x, factor, value.name)

    def scaled(self, x: int, factor: float, name: str) -> int:
        """All elements times one number."""
        by = self.constant(f"{name}/by", np.asarray([factor], np.float32))
        return self.of_two("MUL", x, by, name)

    def of_two(self, code: str, a: int, b: int, name: str) -> int:
        """A sum, difference or product of elements, with broadcasting."""
        shapes = self.shape(a), self.shape(b)
        made = np.broadcast_shapes(*shapes)
        if len(made) <= MOST_AXES:
            return self.binary(code, a, b, name)
        forms = merged_for_broadcast(*shapes)
        if len(forms[0]) > MOST_AXES:
            a, b = (self._spread(x, made, f"{name}/{at}") for x, at in ((a, "a"), (b, "b")))
            forms = merged_for_broadcast(made, made)
        a, b = (
            self.lying(x, form, f"{name}/merged_{at}")
            for x, form, at in zip((a, b), forms, ("a", "b"), strict=True)
        )
        return self.seen_as(self.binary(code, a, b, name), made)

    def _spread(self, x: int, made: Axes, name: str) -> int:
        """A tensor with its axes of size 1 repeated, by ones."""
        shape = (1,) * (len(made) - len(self.shape(x))) + self.shape(x)
        for axis, (had, wanted) in enumerate(zip(shape, made, strict=True)):
            if had != wanted:
                label = f"{name}/{axis}"
                before, after = math.prod(made[:axis]), math.prod(shape[axis + 1 :])
                ones = self.constant(f"{label}/ones", np.ones((1, wanted, 1), np.float32))
                x = self.lying(x, (before, 1, after), f"{label}/merged")
                x = self.binary("MUL", x, ones, label)
        return self.seen_as(x, made)

    def binary(self, code: str, a: int, b: int, name: str) -> int:
        """Multiplies two tensors as they lie."""
        table = f"{code.capitalize()}Options"
        shape = np.broadcast_shapes(self.model.shape(a), self.model.shape(b))
        return self.model.operator(code, [a, b], shape, name=name, options={"table": table})

    def mean(self, value: Value, x: int, axis: int) -> int:
        """See ``Steps``."""
        x, axis = self._around(x, axis, value.name)
        lies = self.model.shape(x)
        kept = (*lies[:axis], *lies[axis + 1 :])
        made = self.reduced("MEAN", x, axis, kept, value.name, keep=False)
        return self.reshape(self.seen_as(made, kept), (self.batch, *value.shape), value.name)

    def reduced(
        self, code: str, x: int, axis: int, shape: Sequence[int], name: str, *, keep: bool = True
    ) -> int:
        """A mean or a sum over an axis of a tensor as it lies."""
        options = {"table": "ReducerOptions", "keepDims": keep}
        return self.model.operator(
            code, [x, self.integers((axis,))], shape, name=name, options=options
        )

    # --- constants

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """See ``Steps``."""
        if values.ndim <= MOST_AXES:
            return self.model.constant(name, values)
        return self.seen_as(self.model.constant(name, values.reshape(1, -1)), values.shape)

    def integers(self, values: tuple[int, ...], *, scalar: bool = False) -> int:
        """An int32 constant, shared between all operators that use the same."""
        key = (-1, *values) if scalar else values
        if key not in self._shared_integers:
            array = np.asarray(values, np.int32)
            shaped = array.reshape(()) if scalar else array
            name = f"integers/{'_'.join(map(str, key))}"
            self._shared_integers[key] = self.constant(name, shaped)
        return self._shared_integers[key]


def replaced(shape: Sequence[int], axis: int, size: int) -> Axes:
    """A shape with another size of one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])
