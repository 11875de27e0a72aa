"""From which size on a runtime's integer products are faster than its float ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitedge.network.operators import Convolution

# The outputs that a product computes at once: 16 floats fill the widest vector.
_VECTOR = 16


@dataclass(frozen=True)
class BreakEven:
    """The least size of what is faster in int8: ``inputs * outputs / (inputs + outputs)``.

    The product grows with the first number, and what is quantized, made float and turned on the way
    with the second. A convolution's inputs are the numbers of a window.

    Attributes:
        of_layers: Linear layers; 0 if they are always faster in integers.
        of_convolutions: Dense convolutions; None if they are never faster in integers.
        convolves: Whether the runtime convolves integers. Then it quantizes an image once, and not
            once for each window that a number is in.
        convolves_pixels: Whether that pays for convolutions of pixels, too.
        asks_tokens: Whether layers of tokens and of pixels have it, too, and not only those between
            convolutions, which a runtime would else compute as convolutions.
        in_stages: Whether convolutions before attention are taken, too, where they save enough time
            for what they cost the outputs, and not only those of a decoder.
        of_divided_tokens: Linear layers whose tokens are divided before they are rounded in a fixed
            range; the runtime finds the scales of tokens of smaller ones itself. 0 if it has no way
            of its own.
        of_scaling: The multiplications that take as long as scaling one number, read or made by a
            layer whose tokens are scaled; 0 if nobody asks what scaling costs.
    """

    of_layers: float = 0.0
    of_convolutions: float | None = None
    convolves: bool = False
    convolves_pixels: bool = False
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

    def takes_convolution(self, convolution: Convolution) -> bool:
        """Whether a convolution is faster in integers."""
        if self.of_convolutions is None or convolution.groups > 1:
            return False
        rows, columns, channels, outputs = convolution.weight.shape
        window = rows * columns * channels
        if not self.convolves:
            return _size(window, outputs) >= self.of_convolutions
        computed = max(outputs, _VECTOR)
        quantized = math.prod(convolution.strides) * channels
        size: float = window * computed / (quantized + computed)
        return size >= self.of_convolutions


INTEGERS_ALWAYS = BreakEven()
"""Linear layers are integers, and convolutions are float."""


def _size(inputs: int, outputs: int) -> float:
    return inputs * outputs / (inputs + outputs)
