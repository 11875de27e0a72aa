"""The kinds of activations and norms that a network may have."""

from __future__ import annotations

from enum import StrEnum


class Activation(StrEnum):
    """A function of every element, as the non-linearity of an MLP."""

    GELU = "gelu"
    """Exact: x Φ(x) (Hendrycks & Gimpel, arXiv:1606.08415)."""
    GELU_TANH = "gelu_tanh"
    """The tanh approximation of the same paper."""
    QUICK_GELU = "quick_gelu"
    """x sigmoid(1.702 x), as in CLIP."""
    RELU = "relu"
    RELU6 = "relu6"
    """Between 0 and 6."""
    HARD_SWISH = "hard_swish"
    """x relu6(x + 3) / 6 (arXiv:1905.02244)."""
    SIGMOID = "sigmoid"
    SILU = "silu"
    TANH = "tanh"
    RECIPROCAL = "reciprocal"
    """1 / x: what a quotient of two values is multiplied with. No MLP has it."""


MLP_ACTIVATIONS = tuple(each for each in Activation if each is not Activation.RECIPROCAL)
"""What a layer of a model may be followed by."""


class NormKind(StrEnum):
    """LayerNorm, RMSNorm (no centring), or L2 norm (the vector over its length)."""

    LAYER = "layer"
    RMS = "rms"
    L2 = "l2"
