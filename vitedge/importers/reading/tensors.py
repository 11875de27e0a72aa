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
        self._shapes, self._load = dict(shapes), load
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, which need not be read for it.

        Raises:
            ModelError: There is no such array.
        """
        if name not in self._shapes:
            raise ModelError(f"'{self.source}' lacks the weights '{name}'")
        return self._shapes[name]

    def __getitem__(self, name: str) -> Array:
        """Reads an array as float32.

        Raises:
            ModelError: There is no such array, or the file is truncated there.
        """
        self.shape(name)
        self._taken.add(name)
        return np.ascontiguousarray(self._load(name), np.float32)

    def ignore(self, *names: str) -> None:
        """Counts arrays as taken that play no part in the logits; absent ones do not matter."""
        self._taken.update(names)

    def below(self, prefix: str) -> Tensors:
        """The arrays whose names begin with a prefix, by the rest of their names."""
        shapes = {
            name.removeprefix(prefix): shape
            for name, shape in self._shapes.items()
            if name.startswith(prefix)
        }
        return Tensors(self.source, shapes, lambda name: self._load(prefix + name))

    def refuse_leftovers(self) -> None:
        """Checks that every array was taken.

        Raises:
            NotAViTError: Some were not, so the model computes something that was not read.
        """
        left = sorted(self.names - self._taken)
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
