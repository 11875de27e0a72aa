"""From which size on a runtime's integer products are faster than its float ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BreakEven:
    """The least ``inputs * outputs / (inputs + outputs)`` of what is faster in int8.

    A product grows with the first number, and what is quantized, made float and turned on the way
    with the second.

    Attributes:
        of_layers: Linear layers; 0 if they are always faster in integers.
        of_convolutions: Dense convolutions, whose inputs are the numbers of a window; None if they
            are never faster in integers.
        asks_tokens: Whether layers of tokens and of pixels have it, too, and not only those between
            convolutions, which a runtime would else compute as convolutions.
        in_stages: Whether convolutions before attention are taken, too, as far as the outputs bear
            it, and not only those of a decoder.
        of_divided_tokens: Linear layers whose tokens are divided before they are rounded in a fixed
            range; the runtime finds the scales of tokens of smaller ones itself. 0 if it has no way
            of its own.
        of_scaling: The multiplications that take as long as scaling one number, read or made by a
            layer whose tokens are scaled; 0 if nobody asks what scaling costs.
    """

    of_layers: float = 0.0
    of_convolutions: float | None = None
    asks_tokens: bool = False
    in_stages: bool = False
    of_divided_tokens: float = 0.0
    of_scaling: float = 0.0

    def keeps_layer(self, inputs: int, outputs: int) -> bool:
        """Whether a linear layer is faster in float."""
        return _size(inputs, outputs) < self.of_layers

    def divides_tokens(self, inputs: int, outputs: int) -> bool:
        """Whether dividing tokens is faster than the runtime's own way of scaling each."""
        return _size(inputs, outputs) >= self.of_divided_tokens

    def takes_convolution(self, inputs: int, outputs: int) -> bool:
        """Whether a dense convolution is faster in integers."""
        least = self.of_convolutions
        return least is not None and _size(inputs, outputs) >= least


INTEGERS_ALWAYS = BreakEven()
"""Linear layers are integers, and convolutions are float."""


def _size(inputs: int, outputs: int) -> float:
    return inputs * outputs / (inputs + outputs)
