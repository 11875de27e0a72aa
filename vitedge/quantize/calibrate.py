"""What flows into each linear layer, measured on calibration images.

One pass serves every recipe: ranges, smoothing and error feedback all start from the same
``Statistics``. Images are taken one by one, and what is kept of them does not grow with their
number.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.vit import Array, ViT, forward

# Large enough to fill the BLAS, small enough that a batch's activations stay in the cache.
_BATCH = 4

# Rows of each input that are kept: with 192 channels or more, 100,000 numbers to find a range in.
_SAMPLED_ROWS = 1024

# Tokens of each image that enter the second moments. Neighbouring tokens are alike, and the
# moments cost as much as the forward pass if all tokens of a ViT-B enter.
_MOMENT_TOKENS = 64


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """What flows into one linear layer.

    Attributes:
        low: Smallest value of each channel over all tokens of all images, ``(inputs,)``.
        high: Largest value of each channel, ``(inputs,)``.
        rows: A uniform random sample of tokens, ``(rows, inputs)``.
        mean: Mean of each channel, ``(inputs,)``.
        moments: Mean of the outer product ``x xᵀ`` over tokens, ``(inputs, inputs)``.
    """

    low: Array
    high: Array
    rows: Array
    mean: Array
    moments: Array


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was measured, and on what.

    Attributes:
        inputs: By the name of the linear layer; q, k and v of a block share one object unless
            the block computes fewer queries than keys.
        n: Number of images.
        sha256: Digest in hex of the pixels of all images in order.
    """

    inputs: Mapping[str, InputStatistics]
    n: int
    sha256: str


def calibrate(vit: ViT, images: Iterable[npt.NDArray[np.uint8]], *, seed: int = 0) -> Statistics:
    """Runs the float model over images and watches the inputs of its linear layers.

    Memory is a few times the model's weights, however many images there are. The outcome depends
    on the images, their order and ``seed`` alone.

    Args:
        vit: The model, already rewritten as it will be quantized.
        images: Pixels as ``vit.preprocessing`` returns them, uint8 ``(H, W, C)``; consumed once.
        seed: Chooses the sampled rows.

    Raises:
        DataError: There is no image, or one has another shape or dtype.
    """
    digest = hashlib.sha256()
    watchers: dict[str, _Watcher] = {}
    n = 0
    for batch in _batches(_checked(vit, images), _BATCH):
        digest.update(batch.tobytes())
        forward(vit, batch, _Observer(vit, watchers, n, seed))
        n += len(batch)
    if not n:
        raise DataError("there are no images to calibrate on")
    inputs = {name: watcher.result() for name, watcher in watchers.items()}
    for name in watchers:
        block, _, layer = name.rpartition(".")
        if layer == "k":
            inputs[f"{block}.v"] = inputs[name]
            inputs.setdefault(f"{block}.q", inputs[name])
    return Statistics(inputs, n, digest.hexdigest())


def _checked(vit: ViT, images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    expected = (*vit.config.image_size, vit.config.channels)
    for index, image in enumerate(images):
        if image.shape != expected or image.dtype != np.uint8:
            raise DataError(
                f"calibration image {index} is {image.dtype} {image.shape}, "
                f"the model takes uint8 {expected}"
            )
        yield image


def _batches(images: Iterator[npt.NDArray[np.uint8]], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    while batch := list(itertools.islice(images, size)):
        yield np.stack(batch)


class _Observer:
    """Hands each distinct input of one batch to its watcher."""

    def __init__(self, vit: ViT, watchers: dict[str, _Watcher], first: int, seed: int) -> None:
        self._pruned = f"blocks.{vit.config.depth - 1}" if vit.config.pooled_queries_only else ""
        self._watchers, self._first, self._seed = watchers, first, seed

    def __call__(self, name: str, x: Array) -> None:
        block, _, layer = name.rpartition(".")
        # q, k and v read the same tokens, but where only pooled tokens have queries.
        if layer == "v" or (layer == "q" and block != self._pruned):
            return
        if name not in self._watchers:
            rng = np.random.default_rng([self._seed, len(self._watchers)])
            self._watchers[name] = _Watcher(x.shape[-1], rng)
        self._watchers[name].add(x.reshape(len(x), -1, x.shape[-1]), self._first)


class _Watcher:
    """Accumulates the statistics of one input."""

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        self._low = np.full(width, np.inf, np.float32)
        self._high = np.full(width, -np.inf, np.float32)
        self._sum = np.zeros(width)
        self._outer = np.zeros((width, width), np.float32)
        self._count = 0
        self._sample = _Reservoir(_SAMPLED_ROWS, width, rng)

    def add(self, x: Array, first: int) -> None:
        """Takes ``(images, tokens, inputs)``; ``first`` is the index of the first image."""
        rows = x.reshape(-1, x.shape[-1])
        np.minimum(self._low, rows.min(axis=0), out=self._low)
        np.maximum(self._high, rows.max(axis=0), out=self._high)
        self._sample.add(rows)
        stride = max(1, x.shape[1] // _MOMENT_TOKENS)
        some = x[:, first % stride :: stride].reshape(-1, x.shape[-1])
        self._sum += some.sum(axis=0)
        self._outer += some.T @ some
        self._count += len(some)

    def result(self) -> InputStatistics:
        """What was seen."""
        return InputStatistics(
            low=self._low,
            high=self._high,
            rows=self._sample.rows(),
            mean=(self._sum / self._count).astype(np.float32),
            moments=self._outer / np.float32(self._count),
        )


class _Reservoir:
    """A uniform sample of a stream of rows: those with the smallest random keys."""

    def __init__(self, size: int, width: int, rng: np.random.Generator) -> None:
        self._rows = np.empty((size, width), np.float32)
        self._keys = np.full(size, np.inf)
        self._rng = rng

    def add(self, rows: Array) -> None:
        keys = self._rng.random(len(rows))
        candidates = np.flatnonzero(keys < self._keys.max())
        candidates = candidates[np.argsort(keys[candidates])][: len(self._keys)]
        # The best candidates take the places of the worst kept rows, as long as they are better.
        worst = np.argsort(-self._keys, kind="stable")[: len(candidates)]
        better = keys[candidates] < self._keys[worst]
        self._rows[worst[better]] = rows[candidates[better]]
        self._keys[worst[better]] = keys[candidates[better]]

    def rows(self) -> Array:
        """The sample; fewer rows when the stream was shorter."""
        kept: Array = self._rows[np.isfinite(self._keys)]
        return kept
