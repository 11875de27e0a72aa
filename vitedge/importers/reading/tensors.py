"""Named arrays of a weight file, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, NotAViTError
from vitedge.vit import Array


class Tensors:
    """The arrays of one source, and which of them an importer has taken.

    A by-name importer has no other model to compare its result with. Its proof is that every array
    of the file found its place: what is left over would have changed the logits.

    Args:
        source: Name of the file, for messages.
        shapes: Shape of every array by name.
        load: Reads one array, of any real dtype.
    """

    def __init__(
        self,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        load: Callable[[str], npt.NDArray[Any]],
    ) -> None:
        self.source = source
        self._shapes, self._load = shapes, load
        self._prefix = ""
        self._taken: set[str] = set()

    def below(self, prefix: str) -> Tensors:
        """A view of the arrays whose names begin with a prefix, by the rest of their names."""
        view = Tensors(self.source, self._shapes, self._load)
        view._prefix, view._taken = self._prefix + prefix, self._taken
        return view

    def renamed(self, places: Mapping[str, str]) -> Tensors:
        """The arrays that ``places`` names, by the new names that are its keys."""
        shapes = {name: self.shape(place) for name, place in places.items()}
        return Tensors(self.source, shapes, lambda name: self._load(places[name]))

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
            ModelError: There is no such array, or the file is truncated there.
        """
        self.shape(name)
        self._taken.add(self._prefix + name)
        return np.ascontiguousarray(self._load(self._prefix + name), np.float32)

    def get(self, name: str) -> Array | None:
        """The same, but None where there is no such array."""
        if name not in self:
            return None
        return self[name]

    def ignore(self, *names: str) -> None:
        """Counts arrays as taken that play no part in the logits; absent ones do not matter."""
        self._taken.update(self._prefix + name for name in names)

    def refuse_leftovers(self) -> None:
        """Checks that every array was taken.

        Raises:
            NotAViTError: Some were not, so the model computes something that was not read.
        """
        left = sorted(self._shapes.keys() - self._taken)
        if left:
            shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            raise NotAViTError(
                f"'{self.source}' has weights with no place in a ViT of its kind: {shown}"
            )


def count(tensors: Tensors, pattern: str) -> int:
    """How many of ``pattern.format(0)``, ``pattern.format(1)``, ... are there without a gap."""
    index = 0
    while pattern.format(index) in tensors:
        index += 1
    return index
