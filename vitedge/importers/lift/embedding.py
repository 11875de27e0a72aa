"""Probes how pixels become tokens: patches, their projection, positions and prefix tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.elements.patches import patchify
from vitedge.errors import NotAViTError
from vitedge.importers.lift.layout import Indices
from vitedge.importers.lift.linear import AGREEMENT, AMPLITUDE, Place
from vitedge.importers.lift.probe import Experiments
from vitedge.network.operators import Array, Linear

CHANNELS = (1, 3, 4)
"""How many channels an image has: grey, RGB, or RGB with one more."""


@dataclass(frozen=True)
class Embedding:
    """The way in which a model makes tokens.

    Attributes:
        image_size: Height and width.
        patch_size: Height and width.
        channels: The channels of the image.
        patch: Projection of a patch as the model takes it, in row, column, channel order.
        tokens: The value of every token for a black image, ``(tokens, dim)``, in the model's order.
        patch_rows: The row of each patch, patches row by row.
        prefix_rows: The rows that do not depend on the image.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    channels: int
    patch: Linear
    tokens: Array
    patch_rows: Indices
    prefix_rows: Indices


def channels_first(shape: Sequence[int | None]) -> bool:
    """Whether an image of this shape is ``(C, H, W)``; a size that is not known is None.

    Where the first and the last axis could both hold channels, as in ``(1, 4, 4)``, the reading
    wins whose height and width are closer to each other, and ``(H, W, C)`` where neither is.
    """
    first, middle, last = shape
    if last not in CHANNELS or first not in CHANNELS:
        return first in CHANNELS
    if first is None or middle is None or last is None:
        return False
    as_first = max(middle, last) / min(middle, last)
    return as_first < max(first, middle) / min(first, middle)


def as_model_input(pixels: Array, shape: tuple[int, int, int]) -> Array:
    """``(N, H, W, C)`` in the model's own order."""
    return pixels.transpose(0, 3, 1, 2) if channels_first(shape) else pixels


def embed(experiments: Experiments, target: Place, neutral: Sequence[float]) -> Embedding:
    """Probes the way from the image to the tokens.

    Args:
        experiments: Access to the model.
        target: The tokens.
        neutral: Per channel, the input that the model's own arithmetic turns into zero. Probing
            around it keeps a patch's other pixels out of the sum, and their rounding with them.

    Raises:
        NotAViTError: The tokens are not linear in patches that neither overlap nor leave gaps.
    """
    return _Embedder(experiments, target, neutral).embed()


class _Embedder:
    def __init__(self, experiments: Experiments, target: Place, neutral: Sequence[float]) -> None:
        self._shape = experiments.probe.image_shape
        first = channels_first(self._shape)
        channels, height, width = self._shape if first else (self._shape[2], *self._shape[:2])
        self._size, self._channels = (height, width), channels
        self._experiments, self._target = experiments, target
        self._run = experiments.between([experiments.graph.image], [target.tensor])
        self._neutral = np.asarray(neutral, np.float32)
        blank = np.zeros((experiments.batch_for(1), height, width, channels), np.float32)
        self._quiet = self._tokens(blank)[0]
        self._black = self._tokens(blank - self._neutral)[0]

    def embed(self) -> Embedding:
        grid = self._grid()
        patch_size = (self._size[0] // grid[0], self._size[1] // grid[1])
        rows = self._rows_of_patches(grid, patch_size)
        others = np.setdiff1d(np.arange(self._target.tokens), rows)
        patch = self._projection(rows, patch_size)
        self._check(patch, rows, patch_size)
        return Embedding(self._size, patch_size, self._channels, patch, self._black, rows, others)

    def _tokens(self, pixels: Array) -> Array:
        """The tokens of an image that differs from the neutral one by these pixels."""
        fed = as_model_input(pixels + self._neutral, self._shape)
        return self._target.layout.read(self._run(fed)[0])

    def _responding(self, pixels: Array) -> npt.NDArray[np.bool_]:
        """The tokens that each image changes, bool ``(N, tokens)``."""
        n = self._experiments.batch_for(len(pixels))
        answers = []
        for start in range(0, len(pixels), n):
            part = pixels[start : start + n]
            padded = np.zeros((n, *pixels.shape[1:]), np.float32)
            padded[: len(part)] = part
            answers.append((self._tokens(padded) != self._quiet).any(axis=2)[: len(part)])
        return np.concatenate(answers)

    def _grid(self) -> tuple[int, int]:
        """Rows and columns of patches: how many tokens the first column and row of pixels reach."""
        noise = np.random.default_rng(0).standard_normal((3, *self._size, self._channels))
        images = np.zeros_like(noise, np.float32)
        images[0] = noise[0]
        images[1, :, 0], images[2, 0] = noise[1, :, 0], noise[2, 0]
        every, rows, columns = self._responding(images * np.float32(AMPLITUDE)).sum(axis=1)
        height, width = self._size
        if not rows or not columns or rows * columns != every or height % rows or width % columns:
            raise NotAViTError(
                f"{every} tokens depend on the image, but they are not a grid of patches that tile "
                f"{height} x {width} pixels (the first column of pixels reaches {rows}, the first "
                f"row {columns}): overlapping patches or a convolutional stem"
            )
        return int(rows), int(columns)

    def _rows_of_patches(self, grid: tuple[int, int], patch_size: tuple[int, int]) -> Indices:
        rows = np.empty(grid[0] * grid[1], np.int64)
        height, width = patch_size
        noise = np.random.default_rng(0).standard_normal((*patch_size, self._channels))
        step = 32
        for start in range(0, len(rows), step):
            indices = np.arange(start, min(start + step, len(rows)))
            images = np.zeros((len(indices), *self._size, self._channels), np.float32)
            for image, index in zip(images, indices, strict=True):
                top, left = index // grid[1] * height, index % grid[1] * width
                image[top : top + height, left : left + width] = noise * AMPLITUDE
            reached = self._responding(images)
            if (reached.sum(axis=1) != 1).any():
                raise NotAViTError("a patch of pixels reaches several tokens: patches overlap")
            rows[indices] = reached.argmax(axis=1)
        return rows

    def _projection(self, rows: Indices, patch_size: tuple[int, int]) -> Linear:
        """Every patch of every image shows another basis vector; the positions are subtracted."""
        inputs = math.prod(patch_size) * self._channels
        n = self._experiments.batch_for(min(4, math.ceil(inputs / len(rows))))
        amplitude = self._amplitude(rows)
        weight = np.empty((inputs, self._target.width), np.float32)
        at_once = n * len(rows)
        for start in range(0, inputs, at_once):
            count = min(at_once, inputs - start)
            patches = np.zeros((at_once, inputs), np.float32)
            patches[np.arange(count), start + np.arange(count)] = amplitude
            pixels = unpatchify(patches.reshape(n, len(rows), inputs), self._size, patch_size)
            answers = (self._tokens(pixels) - self._quiet)[:, rows].reshape(at_once, -1)
            weight[start : start + count] = answers[:count] / np.float32(amplitude)
        return Linear(weight, np.zeros(self._target.width, np.float32))

    def _amplitude(self, rows: Indices) -> float:
        """A power of two that makes the answers 64 times as large as the positions.

        A model with 1/255 inside answers a unit pixel so weakly that the positions' rounding would
        blur the weights.
        """
        n = self._experiments.batch_for(1)
        noise = np.random.default_rng(1).standard_normal((n, *self._size, self._channels))
        fed = (noise * AMPLITUDE).astype(np.float32)
        answer = np.abs((self._tokens(fed) - self._quiet)[:, rows]).mean() / AMPLITUDE
        if not math.isfinite(answer):
            raise NotAViTError("the tokens of a noisy image are not finite")
        wanted = 64 * max(1e-6, float(np.abs(self._quiet[rows]).max())) / max(1e-12, float(answer))
        return float(2.0 ** np.clip(math.ceil(math.log2(wanted)), 10, 20))

    def _check(self, patch: Linear, rows: Indices, patch_size: tuple[int, int]) -> None:
        n = self._experiments.batch_for(1)
        noise = np.random.default_rng(2).standard_normal((n, *self._size, self._channels))
        pixels = (noise * AMPLITUDE).astype(np.float32)
        actual = (self._tokens(pixels) - self._quiet)[:, rows]
        expected = patchify(pixels, patch_size) @ patch.weight
        if not np.abs(actual - expected).max() <= AGREEMENT * np.abs(expected).max():
            raise NotAViTError("the tokens are not one linear function of each patch of pixels")


def unpatchify(patches: Array, size: tuple[int, int], patch_size: tuple[int, int]) -> Array:
    """The inverse of ``patchify``."""
    (height, width), (high, wide) = size, patch_size
    n = len(patches)
    grid = patches.reshape(n, height // high, width // wide, high, wide, -1)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(n, height, width, -1)
