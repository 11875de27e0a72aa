"""The places of a saved network's arrays: a file's description of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Shape

_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Stored:
    """An array of a network.

    Attributes:
        name: The name of its value and its part, such as ``blocks.3.fc1.weight``.
        shape: Its shape.
        dtype: float32 or float64.
        numbers: The numbers of an array without axes or in float64, as JSON holds them; None for
            all others, which lie in a file under their place in the list.
    """

    name: str
    shape: Shape
    dtype: str
    numbers: Any = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        about = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        return about if self.numbers is None else {**about, "numbers": self.numbers}

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Stored:
        """Reads what ``to_dict`` returned.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        shape = tuple(int(size) for size in about["shape"])
        if about["dtype"] not in _DTYPES:
            raise ValueError(f"{about['dtype']} is not a dtype of a network's arrays")
        stored = cls(str(about["name"]), shape, str(about["dtype"]), about.get("numbers"))
        if (stored.numbers is None) != stored.is_apart or (
            stored.numbers is not None and stored.array.shape != shape
        ):
            raise ValueError(f"the numbers of '{stored.name}' do not fit its shape {shape}")
        return stored

    @property
    def is_apart(self) -> bool:
        """Whether the array lies in a file."""
        return bool(self.shape) and self.dtype == "float32"

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array, where it does not."""
        return np.asarray(self.numbers, self.dtype)


def stored_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[Stored, ...]:
    """The description of the arrays that ``described`` gave, in its order."""
    said = (Stored(name, each.shape, str(each.dtype)) for name, each in arrays.items())
    return tuple(
        each if each.is_apart else replace(each, numbers=arrays[each.name].tolist())
        for each in said
    )


def zeros(stored: Iterable[Stored]) -> dict[str, npt.NDArray[Any]]:
    """Arrays that stand in for those of a file, and take no memory; all others are as they are."""
    blank = np.zeros((), np.float32)
    return {
        each.name: np.broadcast_to(blank, each.shape) if each.is_apart else each.array
        for each in stored
    }
