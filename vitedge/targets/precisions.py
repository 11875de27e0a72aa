"""The precisions: which numbers of an artefact are stored and computed how."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Which numbers of an artefact are stored and computed how."""

    FP32 = "fp32"
    FP16 = "fp16"
    """Half-precision weights."""
    INT8 = "int8"
    """8-bit linear layers; everything between them stays float."""
    INT8_STATIC = "int8-static"
    """Integers from the pixels to the logits, for NPUs: 8 bits where there are products, 16 in
    the residual stream and its norms."""
    W8A16 = "w8a16"
    """Integers from the pixels to the logits: 8-bit weights, 16-bit activations."""
    INT4 = "int4"
    """4-bit weights with a scale for each group of them."""

    @property
    def is_float(self) -> bool:
        """Whether nothing in it is an integer."""
        return self in (Precision.FP32, Precision.FP16)

    @property
    def all_integer(self) -> bool:
        """Whether no operator computes in float."""
        return self in (Precision.INT8_STATIC, Precision.W8A16)
