"""Which numbers of an artefact become integers, and which integers.

A ``Recipe`` is what quantization hands to a converter: for each linear layer its integer weights,
and the range of its input where activations are static. A converter writes these numbers down; it
never chooses any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vitedge.spec import Precision


class Activations(StrEnum):
    """How the inputs of integer linear layers become integers."""

    PER_TOKEN = "per-token"
    """When it runs, with one scale per token: LiteRT's XNNPACK."""
    PER_TENSOR = "per-tensor"
    """When it runs, with one scale per tensor: ONNX Runtime's DynamicQuantizeLinear."""
    STATIC = "static"
    """With a range that was fixed before, from calibration."""


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight matrix on a symmetric integer grid with one scale per output channel.

    Attributes:
        values: int8 ``(inputs, outputs)``, within -127..127 (never -128).
        scale: float32 ``(outputs,)``; the weight is ``values * scale``.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]

    def dequantized(self) -> npt.NDArray[np.float32]:
        """The weight that the integers stand for."""
        return self.values.astype(np.float32) * self.scale


@dataclass(frozen=True)
class Range:
    """The interval of real numbers that a static integer activation covers; it contains 0."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high or self.low == self.high:
            raise ValueError(f"a quantized range must contain 0 and more: {self.low}..{self.high}")

    def scale_and_zero_point(self, levels: int = 256) -> tuple[float, int]:
        """Scale and zero point of unsigned integers ``0..levels - 1``.

        The zero point is rounded to an integer, so that real 0 is exact.
        """
        scale = (self.high - self.low) / (levels - 1)
        return scale, round(-self.low / scale)


@dataclass(frozen=True)
class Recipe:
    """The numbers of an artefact.

    Attributes:
        precision: What it is called.
        weights: Integer weights by the name of their linear layer; layers not named stay float.
        inputs: Range of the input of those linear layers whose activations are static. Integer
            layers not named here quantize their input when they run (dynamically).
        token_scaled: Integer layers in ``inputs`` whose input ``x`` is divided, token by token, by
            its largest magnitude ``m = max(max|x|, floor)`` before it is quantized, and whose
            product is multiplied by ``m`` before the bias is added; the value is the floor. The
            range in ``inputs`` is that of ``x / m``, within -1..1.
        description: What was done, in words per kind of layer, for people.
        predicted_sqnr_db: Signal-to-noise ratio of the logits if the input of this layer alone were
            quantized, by the name of the layer, as calibration predicts it. Where q, k and v
            share their input, it stands under ``k``.
    """

    precision: Precision
    weights: Mapping[str, IntegerWeight] = field(default_factory=dict)
    inputs: Mapping[str, Range] = field(default_factory=dict)
    token_scaled: Mapping[str, float] = field(default_factory=dict)
    description: Mapping[str, str] = field(default_factory=dict)
    predicted_sqnr_db: Mapping[str, float] = field(default_factory=dict)
