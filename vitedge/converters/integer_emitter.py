"""What the emitters of graphs without any float operator share: what they refuse, and how."""

from __future__ import annotations

from vitedge.converters.emitter import Emitter
from vitedge.errors import ConversionError
from vitedge.network.network import Value
from vitedge.network.operators import (
    Convolution,
    Linear,
    Norm,
    Pool,
    Resize,
    Standardize,
    Take,
)
from vitedge.network.steps import Tensor
from vitedge.quantize import Range
from vitedge.spec import NormKind


class MissingRangeError(Exception):
    """The recipe has no range for a tensor that an operator makes."""


class Ranges(dict[str, Range]):
    """Ranges by the names of tensors."""

    def __missing__(self, name: str) -> Range:
        raise MissingRangeError(name)


class IntegerEmitter(Emitter[Tensor]):
    """The steps as integer operators, each output with a range of its own."""

    joins_products = False

    ranges: Ranges
    """The recipe's, and those that are laid down on the way."""

    def range_of(self, x: Tensor) -> Range:
        """The range that a tensor has."""
        raise NotImplementedError

    def step(self, value: Value) -> None:
        """See ``Lowering``.

        Raises:
            ConversionError: The operator has no integer form, or the recipe no integers for it.
        """
        refused = self._why_not(value)
        if refused:
            raise self.refusal(value, refused)
        try:
            super().step(value)
        except MissingRangeError as error:
            raise self.refusal(value, f"there is no range for '{error}'") from error

    def _why_not(self, value: Value) -> str:
        match value.operator:
            case Convolution() | Pool() | Resize() | Norm(kind=NormKind.L2):
                return "its format has no integer form of it here"
            case Standardize():
                return "pixels enter as they are; do not leave out fold-input-normalization"
            case Linear() if value.name not in self.recipe.weights:
                return "its weights are not integers"
            case Linear() if value.name not in self.recipe.inputs:
                return "its input has no range"
            case _:
                return ""

    def refusal(self, value: Value, why: str) -> ConversionError:
        """Says which value cannot be expressed, and what to do."""
        kind = type(value.operator).__name__
        return ConversionError(
            f"{self.recipe.precision} computes in integers alone and cannot have '{value.name}' "
            f"({kind}): {why}; take int8, fp16 or fp32"
        )

    def take(self, value: Value, take: Take, x: Tensor) -> Tensor:
        """See ``Emitter``; what is put together of pieces has the range of the whole."""
        self.ranges.setdefault(value.name, self.range_of(x))
        return super().take(value, take, x)
