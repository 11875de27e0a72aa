"""Whether a network mixes its places as a vision transformer does, or as a convolutional one."""

from __future__ import annotations

import math

from vitedge.errors import NotAViTError
from vitedge.network.network import Network, Value
from vitedge.network.operators import Convolution, Multiply, Norm, Product, Softmax


def refuse_without_attention(network: Network) -> None:
    """Leaves networks of convolutions alone to each format's own quantizer.

    Attention is a softmax or a product of two values: of matrices, or of numbers at each place, as
    in FocalNet and SwiftFormer. A product that scales whole channels (squeeze and excitation) is
    none. A network of norms and layers without any convolution (MLP-Mixer) is taken as well.

    Raises:
        NotAViTError: The network has no attention.
    """
    operators = [value.operator for value in network.values]
    if any(isinstance(each, Product | Softmax) for each in operators):
        return
    if any(map(_weighs_places, network.values)):
        return
    has_norm = any(isinstance(each, Norm) for each in operators)
    if has_norm and not any(isinstance(each, Convolution) for each in operators):
        return
    raise NotAViTError("it has no softmax attention, nor any other product of two values")


def _weighs_places(value: Value) -> bool:
    """Whether it multiplies two values that both differ from place to place."""
    return isinstance(value.operator, Multiply) and all(
        not each.is_constant and math.prod(each.shape[:-1]) > 1 for each in value.inputs
    )
