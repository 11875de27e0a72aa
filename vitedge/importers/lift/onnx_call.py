"""One node of ONNX with what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.views import View

if TYPE_CHECKING:
    pass


_ROWS, _COLUMNS, _CHANNELS = 2, 3, 1
_NCHW = (_ROWS, _COLUMNS, _CHANNELS)


@dataclass(frozen=True)
class Call:
    """One node with what it reads.

    Attributes:
        draft: The draft that makes the values.
        op: The operator.
        inputs: The tensors that it reads; None for an optional input that is left out.
        attributes: The attributes by name, as Python's own numbers, strings and lists.
        opset: Version of the operators.
    """

    draft: Draft
    op: str
    inputs: tuple[Tensor | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17

    def live(self, place: int = 0) -> View:
        """An input that depends on the image.

        Raises:
            ValueError: The input is constant.
        """
        found = self.inputs[place]
        if not isinstance(found, View):
            raise ValueError(f"its input {place} is constant")
        return found

    def fixed(self, place: int) -> Fixed | None:
        """An input that does not, or None where it is left out.

        Raises:
            ValueError: The input depends on the image.
        """
        found = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(found, View):
            raise ValueError(f"its input {place} depends on the image")
        return found

    def any(self, place: int) -> Tensor:
        """An input of either kind."""
        found = self.inputs[place]
        if found is None:
            raise ValueError(f"its input {place} is missing")
        return found

    def integers(self, place: int, name: str) -> list[int] | None:
        """Integers of an input or, in older versions, of an attribute."""
        fixed = self.fixed(place)
        if fixed is not None:
            return [int(each) for each in np.ravel(fixed)]
        given = self.attributes.get(name)
        return None if given is None else [int(each) for each in np.ravel(given)]


Rule: TypeAlias = Callable[[Call], Tensor | Sequence[Tensor]]
