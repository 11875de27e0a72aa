"""Calibration: one pass over images serves every recipe.

Images are taken one by one, and what is kept of them does not grow with their number. Some of
them also go backward through the model, for the cost of errors (see ``gradients``).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.quantize.gradients import record_gradients
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.vit import Array, ViT, forward

__all__ = ["Statistics", "calibrate"]

# Large enough to fill the BLAS, small enough that a batch's activations stay in the cache.
_BATCH = 4

# Tokens of each image that enter the second moments. Neighbouring tokens are alike, and the
# moments cost as much as the forward pass if all tokens of a ViT-B enter.
_MOMENT_TOKENS = 64

# Of the images that go backward, the tokens that are kept: those with the largest numbers, which
# decide where a range may end, and others.
_LARGEST_TOKENS, _OTHER_TOKENS = 8, 16

# The first batches go backward, then every fourth, up to so many. An image that goes backward costs
# as much as four that do not.
_FIRST_BACKWARD, _BACKWARD_STRIDE, _MOST_BACKWARD = 2, 4, 16


def calibrate(vit: ViT, images: Iterable[npt.NDArray[np.uint8]], *, seed: int = 0) -> Statistics:
    """Runs the float model over images and watches the inputs of its linear layers.

    Memory is a few times the model's weights, however many images there are. The outcome depends
    on the images, their order and ``seed`` alone.

    Args:
        vit: The model, already rewritten as it will be quantized.
        images: Pixels as ``vit.preprocessing`` returns them, uint8 ``(H, W, C)``; consumed once.
        seed: Chooses the sampled tokens and the directions of the gradients.

    Raises:
        DataError: There is no image, or one has another shape or dtype.
    """
    digest = hashlib.sha256()
    calibration = _Calibration(vit, seed)
    for index, batch in enumerate(_batches(_checked(vit, images), _BATCH)):
        digest.update(batch.tobytes())
        calibration.add(index, batch)
    if not calibration.n:
        raise DataError("there are no images to calibrate on")
    return calibration.result(digest.hexdigest())


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


class _Calibration:
    """Statistics in the making."""

    def __init__(self, vit: ViT, seed: int) -> None:
        self._vit = vit
        last = f"blocks.{vit.config.depth - 1}.q"
        self._own_queries = last if vit.config.pooled_queries_only else ""
        self._rng = np.random.default_rng(seed)
        self._watchers: dict[str, _Watcher] = {}
        self._energy = 0.0
        self._backward = 0
        self.n = 0

    def add(self, index: int, batch: npt.NDArray[np.uint8]) -> None:
        """Takes the batch of that index."""
        logits = forward(self._vit, batch, self._watch)
        self._energy += float((logits.astype(np.float64) ** 2).sum())
        wanted = index < _FIRST_BACKWARD or index % _BACKWARD_STRIDE == 0
        if wanted and self._backward < _MOST_BACKWARD:
            self._backward += 1
            directions = self._rng.standard_normal(logits.shape).astype(np.float32)
            record_gradients(self._vit, batch, directions, self._keep_gradients)
        self.n += len(batch)

    def result(self, sha256: str) -> Statistics:
        """All that was seen."""
        inputs = {name: watcher.result() for name, watcher in self._watchers.items()}
        for name in self._watchers:
            block, _, layer = name.rpartition(".")
            if layer == "k":
                inputs[f"{block}.v"] = inputs[name]
                inputs.setdefault(f"{block}.q", inputs[name])
        return Statistics(inputs, self._energy / self.n, self.n, sha256)

    def _watch(self, name: str, x: Array) -> None:
        layer = name.rpartition(".")[2]
        # q, k and v read the same tokens, but where only pooled tokens have queries.
        if layer == "v" or (layer == "q" and name != self._own_queries):
            return
        if name not in self._watchers:
            self._watchers[name] = _Watcher(x.shape[-1])
        self._watchers[name].add(x.reshape(len(x), -1, x.shape[-1]), self.n)

    def _keep_gradients(self, name: str, x: Array, gradient: Array) -> None:
        shape = (len(x), -1, x.shape[-1])
        self._watchers[name].keep(x.reshape(shape), gradient.reshape(shape), self._rng)


class _Watcher:
    """Accumulates the statistics of one input."""

    def __init__(self, width: int) -> None:
        self._low = np.full(width, np.inf, np.float32)
        self._high = np.full(width, -np.inf, np.float32)
        self._sum = np.zeros(width)
        self._outer = np.zeros((width, width), np.float32)
        self._count = 0
        self._tokens = 0
        self._rows: list[Array] = []
        self._gradients: list[Array] = []
        self._counts: list[Array] = []

    def add(self, x: Array, first: int) -> None:
        """Takes ``(images, tokens, inputs)``; ``first`` is the index of the first image."""
        self._tokens = x.shape[1]
        np.minimum(self._low, x.min(axis=(0, 1)), out=self._low)
        np.maximum(self._high, x.max(axis=(0, 1)), out=self._high)
        stride = max(1, self._tokens // _MOMENT_TOKENS)
        some = x[:, first % stride :: stride].reshape(-1, x.shape[-1])
        self._sum += some.sum(axis=0)
        self._outer += some.T @ some
        self._count += len(some)

    def keep(self, x: Array, gradient: Array, rng: np.random.Generator) -> None:
        """Keeps some tokens of each image with their gradients."""
        for tokens, slopes in zip(x, gradient, strict=True):
            order = np.argsort(-np.abs(tokens).max(axis=1), kind="stable")
            largest, others = order[:_LARGEST_TOKENS], order[_LARGEST_TOKENS:]
            chosen = rng.permutation(others)[:_OTHER_TOKENS]
            kept = np.concatenate([largest, chosen])
            counts = np.ones(len(kept), np.float32)
            counts[len(largest) :] = len(others) / max(len(chosen), 1)
            self._rows.append(tokens[kept])
            self._gradients.append(slopes[kept])
            self._counts.append(counts)

    def result(self) -> InputStatistics:
        """What was seen."""
        width = len(self._low)
        lengths = [len(rows) for rows in self._rows]
        none = np.zeros((0, width), np.float32)
        counts: Array = np.concatenate([none[:, 0], *self._counts])
        counts /= np.float32(max(len(lengths), 1))
        return InputStatistics(
            low=self._low,
            high=self._high,
            mean=(self._sum / self._count).astype(np.float32),
            moments=self._outer / np.float32(self._count),
            tokens=self._tokens,
            count=self._count,
            rows=np.concatenate([none, *self._rows]),
            gradients=np.concatenate([none, *self._gradients]),
            counts=counts,
            images=np.repeat(np.arange(len(lengths)), lengths),
        )
