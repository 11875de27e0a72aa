"""Named arrays of a weight file, each read when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, NotAViTError
from vitedge.files.limits import refuse_inflation
from vitedge.network.operators import Array

_FLOAT32_BYTES = 4


class Tensors:
    """The arrays of one source, and which of them an importer has taken.

    A by-name importer has no other model to compare its result with. Its proof is that every array
    of the file found its place: what is left over would have changed the logits.

    Args:
        source: Name of the file, for messages.
        shapes: Shape of every array by name.
        load: Reads one array, of any real dtype.
        held: Bytes of the file.

    Raises:
        SizeError: All arrays together would take more memory than the file has bytes (four times,
            because bytes become float32), and more than the bound on sources.
    """

    def __init__(
        self,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        load: Callable[[str], npt.NDArray[Any]],
        *,
        held: int,
    ) -> None:
        self.source, self.held = source, held
        self._shapes, self._load = shapes, load
        claimed = sum(math.prod(shape) for shape in shapes.values()) * _FLOAT32_BYTES
        refuse_inflation(f"what '{source}' says its arrays are", claimed, _FLOAT32_BYTES * held)
        self._prefix = ""
        self._taken: set[str] = set()

    def below(self, prefix: str) -> Tensors:
        """A view of the arrays whose names begin with a prefix, by the rest of their names."""
        view = copy(self)
        view._prefix = self._prefix + prefix
        return view

    def renamed(self, places: Mapping[str, str]) -> Tensors:
        """The arrays that ``places`` names, by the new names that are its keys."""
        shapes = {name: self.shape(place) for name, place in places.items()}
        return Tensors(self.source, shapes, lambda name: self._load(places[name]), held=self.held)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._shapes

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset(
            name.removeprefix(self._prefix)
            for name in self._shapes
            if name.startswith(self._prefix)
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, which need not be read for it.

        Raises:
            ModelError: There is no such array.
        """
        if name not in self:
            raise ModelError(f"'{self.source}' lacks the weights '{self._prefix + name}'")
        return self._shapes[self._prefix + name]

    def __getitem__(self, name: str) -> Array:
        """Reads an array as float32.

        Raises:
            ModelError: There is no such array, the file is truncated there, or a value is not
                finite in float32.
        """
        self.shape(name)
        full_name = self._prefix + name
        self._taken.add(full_name)
        array = self._load(full_name)
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise ModelError(f"'{full_name}' in '{self.source}' is {array.dtype}, not real numbers")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            values = np.ascontiguousarray(array, np.float32)
        broken = values.size - int(np.isfinite(values).sum())
        if broken:
            raise ModelError(
                f"'{full_name}' in '{self.source}' holds NaN or infinity ({broken} of "
                f"{values.size} values): the training that made it diverged, or the file is damaged"
            )
        return values

    def get(self, name: str) -> Array | None:
        """The array, or None if there is no such array."""
        if name not in self:
            return None
        return self[name]

    def ignore(self, *names: str) -> None:
        """Counts arrays as taken that play no part in the logits; absent ones do not matter."""
        self._taken.update(self._prefix + name for name in names)

    def refuse_leftovers(self, head: str = "") -> None:
        """Checks that every array was taken.

        Args:
            head: The name of the head in models of this kind, if ``--head`` can name another one.

        Raises:
            NotAViTError: Some were not, so the model computes something that was not read.
        """
        left = sorted(self._shapes.keys() - self._taken)
        if not left:
            return
        shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        has_head = any(name.startswith(f"{head}.") for name in self._shapes)
        layers = linear_layers(left) if head and not has_head else []
        advice = f"; if '{layers[0]}' is its head, --head {layers[0]}" if layers else ""
        raise NotAViTError(
            f"'{self.source}' has weights with no place in a ViT of its kind: {shown}{advice}"
        )


def linear_layers(names: Collection[str]) -> list[str]:
    """The layers among names of arrays that have a weight and a bias."""
    layers = sorted(name.removesuffix(".weight") for name in names if name.endswith(".weight"))
    return [layer for layer in layers if f"{layer}.bias" in names]


def as_head(places: Mapping[str, str], layer: str, head: str) -> dict[str, str]:
    """Places of arrays by name, with those of one layer by the name of a head.

    Args:
        places: Any values by the arrays' names.
        layer: The layer's name; if there is none, nothing changes.
        head: The new name of the head.
    """
    below = f"{layer}."
    return {
        f"{head}.{name.removeprefix(below)}" if name.startswith(below) else name: place
        for name, place in places.items()
    }


def count(tensors: Tensors, pattern: str) -> int:
    """The number of ``pattern.format(0)``, ``pattern.format(1)``, ... are there without a gap."""
    index = 0
    while pattern.format(index) in tensors:
        index += 1
    return index
