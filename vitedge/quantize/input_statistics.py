"""Measures the inputs of each linear layer, and the cost of an error there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Array

# An error of nothing at all is an SQNR of some 300 dB, not a division by zero.
_LEAST_ERROR = 1e-30


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """The input of one linear layer.

    Attributes:
        low: Smallest value of each channel over all tokens of all images, ``(inputs,)``.
        high: Largest value of each channel, ``(inputs,)``.
        mean: Mean of each channel, ``(inputs,)``.
        moments: Mean of the outer product ``x xᵀ`` over tokens, ``(inputs, inputs)``.
        tokens: The number of tokens that the layer sees in one image.
        count: The number of tokens that mean and moments were taken over.
        rows: Some tokens, ``(rows, inputs)``: of some images, those with the largest numbers and
            a random choice of the others. Empty where no layer stands before it.
        gradients: Gradient of the outputs in a random direction at each row, ``(rows, inputs)``.
        counts: The number of tokens of one image that each row stands for, over the number of
            images; the sum is ``tokens``. ``(rows,)``.
        images: Index of the image that each row is of, ``(rows,)``.
    """

    low: Array
    high: Array
    mean: Array
    moments: Array
    tokens: int
    count: int
    rows: Array
    gradients: Array
    counts: Array
    images: npt.NDArray[np.intp]

    def scaled(self, factors: Array) -> InputStatistics:
        """The statistics of the input times ``factors``, ``(inputs,)``, which are positive."""
        return replace(
            self,
            low=self.low * factors,
            high=self.high * factors,
            mean=self.mean * factors,
            moments=self.moments * np.outer(factors, factors),
            rows=self.rows * factors,
            gradients=self.gradients / factors,
        )

    def shifted(self, offset: Array) -> InputStatistics:
        """The statistics of the input plus ``offset``, ``(inputs,)``."""
        mixed = np.outer(offset, self.mean)
        return replace(
            self,
            low=self.low + offset,
            high=self.high + offset,
            mean=self.mean + offset,
            moments=self.moments + mixed + mixed.T + np.outer(offset, offset),
            rows=self.rows + offset,
        )

    def mapped(
        self, change: npt.NDArray[np.float64], inverse: npt.NDArray[np.float64]
    ) -> InputStatistics:
        """The statistics of the input times a matrix ``(inputs, inputs)``.

        The extremes are those of the rows, a tenth wider: those of all tokens are not known in the
        new basis.
        """
        rows: Array = (self.rows @ change).astype(np.float32)
        return replace(
            self,
            low=rows.min(axis=0) * np.float32(1.1),
            high=rows.max(axis=0) * np.float32(1.1),
            mean=(self.mean @ change).astype(np.float32),
            moments=(change.T @ self.moments @ change).astype(np.float32),
            rows=rows,
            gradients=(self.gradients @ inverse.T).astype(np.float32),
        )

    def rounding_error(self, step: Array | float) -> float:
        """Expected squared error of one image's logits when the rows are rounded.

        Rounding is taken for noise of variance ``step² / 12``, independent in all channels; that
        varies less with the choice of the rows than their very own rounding errors do.

        Args:
            step: Distance of two levels, for all rows or for each, ``(rows,)``.
        """
        cost = self.counts * (self.gradients**2).sum(axis=1)
        return float((cost * np.square(step)).sum() / 12)

    def clipping_error(self, error: Array) -> float:
        """Expected squared error of one image's logits when the rows are off by ``error``."""
        along = (error * self.gradients).sum(axis=1)
        return float(self.counts @ (along * along))


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics, and the images that they are of.

    Attributes:
        inputs: The statistics by the name of the linear layer; layers that read the same value
            share one object.
        logit_energy: Mean over images of the sum of squared logits, or, where there are other
            outputs, of the squares of all outputs.
        n: Number of images.
        sha256: Digest in hex of the pixels of all images in order.
        windows: The statistics of the windows of dense convolutions, by their names, without rows;
            the numbers of a window are in the order of ``Convolution.weight``.
        extremes: The smallest and the largest number of all images that each convolution reads, by
            the convolution's name.
    """

    inputs: Mapping[str, InputStatistics]
    logit_energy: float
    n: int
    sha256: str
    windows: Mapping[str, InputStatistics] = field(default_factory=dict)
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def sqnr_db(self, error: float) -> float:
        """Signal-to-noise ratio of logits with this mean squared error per image."""
        return float(10 * np.log10(self.logit_energy / max(error, _LEAST_ERROR)))
