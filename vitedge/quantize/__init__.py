"""Chooses the numbers of an artefact that become integers, and the integers.

A ``Recipe`` is what quantization hands to a converter: for each linear layer its integer weights,
and the range of its input where activations are static. A converter writes these numbers down; it
never chooses any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.targets.precisions import Precision


class Activations(StrEnum):
    """The way in which the inputs of integer linear layers become integers."""

    PER_TOKEN = "per-token"
    """When it runs, with one scale per token: LiteRT's XNNPACK."""
    PER_TENSOR = "per-tensor"
    """When it runs, with one scale per tensor: ONNX Runtime's DynamicQuantizeLinear."""
    STATIC = "static"
    """With a range that was fixed before, from calibration."""
    STATIC_OR_TOKEN_SCALED = "static or token-scaled"
    """With a fixed range, but where that costs the logits much each token is divided by its largest
    number before, or has a scale that is found when the model runs: OpenVINO."""


def of_each_weight(shared: npt.NDArray[Any], inputs: int) -> npt.NDArray[Any]:
    """The scales that groups of neighbouring inputs share, for each weight.

    Args:
        shared: ``(groups, outputs)``; what all inputs share, ``(outputs,)``, stays as it is.
        inputs: The number of weights.

    Returns:
        ``(inputs, outputs)``, or ``(outputs,)``.
    """
    return shared if shared.ndim == 1 else np.repeat(shared, inputs // len(shared), axis=0)


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight matrix on an integer grid.

    Attributes:
        values: int8 ``(inputs, outputs)``, within ``learnt_grid.INTEGER_LIMITS``.
        scale: float32, one for each output ``(outputs,)``, or for each output and group of
            neighbouring inputs ``(groups, outputs)``; the weight is ``(values - zero) * scale``.
        bits: 8 or 4.
        zero: The zero points of 4-bit weights: int8, within the same limits and of the shape of
            ``scale``; None is zero throughout.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    bits: int = 8
    zero: npt.NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if self.zero is not None and (self.bits != 4 or self.zero.shape != self.scale.shape):
            raise ValueError("zero points are for 4-bit weights, one beside each scale")

    @property
    def group(self) -> int:
        """The number of inputs that share a scale."""
        groups = 1 if self.scale.ndim == 1 else len(self.scale)
        return len(self.values) // groups

    def dequantized(self) -> npt.NDArray[np.float32]:
        """The weight that the integers stand for."""
        weight: npt.NDArray[np.float32] = self.steps() * of_each_weight(
            self.scale, len(self.values)
        )
        return weight

    def steps(self) -> npt.NDArray[np.float32]:
        """Each weight as a multiple of its scale."""
        steps = self.values.astype(np.float32)
        if self.zero is not None:
            steps -= of_each_weight(self.zero, len(steps))
        return steps


@dataclass(frozen=True)
class Range:
    """The interval of real numbers that a static integer activation covers; it contains 0.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        bits: Width of the integers, 8 or 16.
    """

    low: float
    high: float
    bits: int = 8

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high or self.low == self.high:
            raise ValueError(f"a quantized range must contain 0 and more: {self.low}..{self.high}")

    @property
    def levels(self) -> int:
        """The number of integers."""
        return 1 << self.bits

    def scale_and_zero_point(self) -> tuple[float, int]:
        """Scale and zero point of unsigned integers ``0..levels - 1``.

        The zero point is rounded to an integer, so that real 0 is exact. Signed integers have the
        same scale, and a zero point smaller by half of the levels.
        """
        scale = (self.high - self.low) / (self.levels - 1)
        return scale, round(-self.low / scale)

    @classmethod
    def symmetric(cls, largest: float, bits: int) -> Range:
        """``largest`` on both sides of 0; the zero point of signed integers is 0."""
        # One step further below: two's complement has one integer more there.
        step = largest / ((1 << bits - 1) - 1)
        return cls(-largest - step, largest, bits)


@dataclass(frozen=True)
class Recipe:
    """The numbers of an artefact.

    Attributes:
        precision: The name of the precision.
        weights: Integer weights by the name of their linear layer; layers not named stay float.
        inputs: Range of the input of those linear layers whose activations are static. Integer
            layers not named here quantize their input when they run (dynamically).
        tensors: The range of every tensor that an operator makes, by the name that
            ``vitedge.quantize.trace`` gives it, if the recipe has no float operator. Operators that
            only move numbers (reshape, slice) keep the range of their input.
        token_scaled: Integer layers in ``inputs`` whose input ``x`` is divided, token by token, by
            ``m = max(max|x|, floor)`` before it is quantized, and whose product is multiplied by
            ``m`` before the bias is added; the value is the floor. The range in ``inputs`` is that
            of ``x / m``, within -1..1. Where that range begins above -1 (``divides_by_largest``),
            ``m`` is ``max(max x, floor)``: no negative number is as large as the floor.
        description: The quantization in words per kind of layer, for people.
        predicted_sqnr_db: Signal-to-noise ratio of the logits if the input of this layer alone were
            quantized, by the name of the layer, as calibration predicts it. Where several layers
            share their input, it stands under the first.
    """

    precision: Precision
    weights: Mapping[str, IntegerWeight] = field(default_factory=dict)
    inputs: Mapping[str, Range] = field(default_factory=dict)
    tensors: Mapping[str, Range] = field(default_factory=dict)
    token_scaled: Mapping[str, float] = field(default_factory=dict)
    description: Mapping[str, str] = field(default_factory=dict)
    predicted_sqnr_db: Mapping[str, float] = field(default_factory=dict)

    def range_read(self, name: str, made: Range) -> Range:
        """The range in which a layer reads a tensor that another operator made.

        16 bits have room for what both are meant to hold, so a wide tensor keeps its own range: a
        change of grid would cost an operator, and Qualcomm's compiler leaves it out without
        rescaling the bias (onnxruntime-qnn 2.7: every bias of DeiT-tiny off by 6 %, 17 dB).

        Args:
            name: The layer; one of ``inputs``.
            made: The range that the tensor has.
        """
        chosen = self.inputs[name]
        return made if made.bits == chosen.bits == 16 else chosen
