"""One node of TensorFlow with what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vitedge.importers.lift.draft import Draft, Fixed, Tensor
from vitedge.importers.lift.images_read import Pair
from vitedge.importers.lift.views import View

NHWC, NCHW = (1, 2, 3), (2, 3, 1)


@dataclass(frozen=True)
class Call:
    """One operation with what it reads.

    Attributes:
        draft: The draft that makes the values.
        operation: TensorFlow's ``tf.Operation``, for its attributes.
        inputs: The tensors that it reads.
    """

    draft: Draft
    operation: Any
    inputs: tuple[Tensor, ...]

    @property
    def op(self) -> str:
        """The operator."""
        return str(self.operation.type)

    def attribute(self, name: str) -> Any:
        """An attribute; text as such."""
        found = self.operation.get_attr(name)
        return found.decode() if isinstance(found, bytes) else found

    def live(self, place: int = 0) -> View:
        """An input that depends on the image.

        Raises:
            ValueError: The input is constant.
        """
        found = self.inputs[place]
        if not isinstance(found, View):
            raise ValueError(f"its input {place} is constant")
        return found

    def fixed(self, place: int) -> Fixed:
        """An input that does not.

        Raises:
            ValueError: The input depends on the image.
        """
        found = self.inputs[place]
        if isinstance(found, View):
            raise ValueError(f"its input {place} depends on the image")
        return found

    def integers(self, place: int) -> list[int]:
        """A constant input as integers."""
        return [int(each) for each in np.ravel(self.fixed(place))]

    @property
    def axes(self) -> tuple[int, int, int]:
        """Rows, columns and channels of an image."""
        return NHWC if self.attribute("data_format") == "NHWC" else NCHW

    def pair(self, name: str) -> Pair:
        """Rows and columns of an attribute with a number for each axis."""
        numbers = self.attribute(name)
        return int(numbers[self.axes[0]]), int(numbers[self.axes[1]])


Rule: TypeAlias = Callable[[Call], Tensor | Sequence[Tensor]]
