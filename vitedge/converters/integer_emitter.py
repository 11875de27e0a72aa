"""Refusals that the emitters of graphs without any float operator share."""

from __future__ import annotations

from vitedge.converters.emitter import Emitter
from vitedge.errors import ConversionError
from vitedge.network.network import Network, Value
from vitedge.network.operators import Convolution, Count, Linear, Match, Merge, Take
from vitedge.network.steps import Tensor
from vitedge.quantize import Range, Recipe
from vitedge.quantize.widths import operand_names


class InexpressibleError(Exception):
    """Says why a step has no integer form; whose step it is, ``IntegerEmitter`` knows."""


class Ranges(dict[str, Range]):
    """Ranges by the names of tensors."""

    def __missing__(self, name: str) -> Range:
        raise InexpressibleError(f"there is no range for '{name}'")


class IntegerEmitter(Emitter[Tensor]):
    """The steps as integer operators, each output with a range of its own."""

    joins_products = False

    ranges: Ranges
    """The recipe's, and those that are laid down on the way."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        names = operand_names(network)
        self._operand_names = {value.name: names[value] for value in names}
        super().__init__(network, recipe, batch)

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
        except InexpressibleError as error:
            raise self.refusal(value, str(error)) from error

    def _why_not(self, value: Value) -> str:
        match value.operator:
            case Match() | Merge() | Count():
                return "tokens cannot be merged there by what is in the picture"
            case Linear() | Convolution() if value.name not in self.recipe.weights:
                return "its weights are not integers"
            case Linear() if value.name not in self.recipe.inputs:
                return "its input has no range"
            case _:
                return ""

    def operands(self, value: Value, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a product, in the ranges that the recipe gives them there."""
        first, second = self._operand_names[value.name]
        a = self.as_range(a, self.ranges.get(first), first)
        b = self.as_range(b, self.ranges.get(second), second)
        # A recipe has no ranges for constants: they have 16 bits, or what the other factor has.
        if value.inputs[0].is_constant:
            a = self._in_bits(a, self.range_of(b).bits, first)
        if value.inputs[1].is_constant:
            b = self._in_bits(b, self.range_of(a).bits, second)
        return a, b

    def entering(self, value: Value, x: Tensor) -> Tensor:
        """The input of an activation or convolution, in the recipe's range for it."""
        name = f"{value.name}/input"
        return self.as_range(x, self.ranges.get(name), name)

    def convolved(self, value: Value, x: Tensor) -> Tensor:
        """The input of a convolution, in as many bits as its output has."""
        name = f"{value.name}/input"
        return self._in_bits(self.entering(value, x), self.ranges[value.name].bits, name)

    def _in_bits(self, x: Tensor, bits: int, name: str) -> Tensor:
        covered = self.range_of(x)
        if covered.bits == bits:
            return x
        return self.as_range(x, Range.symmetric(max(covered.high, -covered.low), bits), name)

    def as_range(self, x: Tensor, covered: Range | None, name: str) -> Tensor:
        """The tensor's numbers in another range; None keeps the range that they have."""
        raise NotImplementedError

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
