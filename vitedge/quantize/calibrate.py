"""Calibration: one pass over images serves every recipe.

Images are taken one by one, and what is kept of them does not grow with their number. Some of
them also go backward through the model, for the cost of errors (see
``vitedge.network.differentiate``).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.network.differentiate import record_gradients
from vitedge.network.evaluate import evaluate, windows
from vitedge.network.network import Network, Value
from vitedge.network.operators import Array, Convolution
from vitedge.quantize.cores import Cores, all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics

__all__ = ["Statistics", "calibrate"]

# Enough for the cores of a laptop; the inputs of all layers of so many images are in memory.
_BATCH = 4

# Tokens of each image that enter the second moments. Neighbouring tokens are alike, and the
# moments cost as much as the forward pass if all tokens of a ViT-B enter.
_MOMENT_TOKENS = 64

# The same of windows of convolutions, which hold more numbers; of larger windows nothing is kept,
# because the moments would take a tenth of a gigabyte for each convolution.
_MOMENT_WINDOWS, _MOST_WINDOW_NUMBERS = 128, 4096

# Of the images that go backward, the tokens that are kept: those with the largest numbers, which
# decide where a range may end, and others.
_LARGEST_TOKENS, _OTHER_TOKENS = 8, 16

# The first batches go backward, then every fourth, up to so many. An image that goes backward costs
# as much as three that do not.
_FIRST_BACKWARD, _BACKWARD_STRIDE, _MOST_BACKWARD = 2, 4, 16


def calibrate(
    network: Network, images: Iterable[npt.NDArray[np.uint8]], *, seed: int = 0
) -> Statistics:
    """Runs the float model over images and watches the inputs of its linear layers.

    Memory is a few times the model's weights, however many images there are. The outcome depends
    on the images, their order and ``seed`` alone.

    Args:
        network: The model, already rewritten as it will be quantized.
        images: Pixels as ``network.preprocessing`` returns them, uint8 ``(H, W, C)``; consumed
            once.
        seed: Chooses the sampled tokens and the directions of the gradients.

    Raises:
        DataError: There is no image, or one has another shape or dtype.
    """
    digest = hashlib.sha256()
    with all_cores() as cores:
        calibration = _Calibration(network, seed, cores)
        for index, batch in enumerate(_batches(_checked(network, images), _BATCH)):
            digest.update(batch.tobytes())
            calibration.add(index, batch)
    if not calibration.n:
        raise DataError("there are no images to calibrate on")
    return calibration.result(digest.hexdigest())


def _checked(
    network: Network, images: Iterable[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.uint8]]:
    expected = network.image_shape
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


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image on its way through the model.

    Attributes:
        energy: Sum of the squared outputs.
        inputs: The inputs of linear layers, by value, ``(tokens, channels)``.
        windows: Some windows of dense convolutions, by their names, ``(windows, numbers)``.
        extremes: The smallest and the largest number that each convolution reads.
        gradients: The gradients of the outputs at those values, from the last to the first; empty
            if the image did not go backward, and without values that no layer stands before.
    """

    energy: float
    inputs: dict[Value, Array]
    windows: dict[str, Array]
    extremes: dict[str, tuple[float, float]]
    gradients: dict[Value, Array]


class _Calibration:
    """Statistics in the making."""

    def __init__(self, network: Network, seed: int, cores: Cores) -> None:
        self._network, self._cores = network, cores
        self._rng = np.random.default_rng(seed)
        self._read = {value.name: value.inputs[0] for value, _ in network.linears()}
        self._watchers = {value: _Watcher(value.shape[-1]) for value in self._read.values()}
        self._slid = {each.name: each for each in network.values if _is_watched(each)}
        self._windows = {name: _Watcher(_numbers(each)) for name, each in self._slid.items()}
        self._extremes: dict[str, tuple[float, float]] = {}
        self._energy = 0.0
        self._backward = 0
        self.n = 0

    def add(self, index: int, batch: npt.NDArray[np.uint8]) -> None:
        """Takes the batch of that index."""
        wanted = index < _FIRST_BACKWARD or index % _BACKWARD_STRIDE == 0
        directions: list[dict[str, Array]] = [{} for _ in batch]
        if wanted and self._backward < _MOST_BACKWARD:
            self._backward += 1
            for name, value in self._network.outputs.items():
                drawn = self._rng.standard_normal((len(batch), *value.shape)).astype(np.float32)
                for of_image, direction in zip(directions, drawn, strict=True):
                    of_image[name] = direction
        seen = self._cores.map(self._see, zip(batch, directions, strict=True))
        self._energy += sum(each.energy for each in seen)
        for each in seen:
            for name, (low, high) in each.extremes.items():
                least, most = self._extremes.get(name, (low, high))
                self._extremes[name] = min(least, low), max(most, high)

        def add(value: Value) -> None:
            self._watchers[value].add([each.inputs[value] for each in seen], self.n)

        def add_windows(name: str) -> None:
            self._windows[name].add([each.windows[name] for each in seen], 0, _MOMENT_WINDOWS)

        self._cores.map(add, self._watchers)
        self._cores.map(add_windows, self._windows)
        for value in seen[0].gradients:
            for each in seen:
                self._watchers[value].keep(each.inputs[value], each.gradients[value], self._rng)
        self.n += len(batch)

    def _see(self, task: tuple[npt.NDArray[np.uint8], dict[str, Array]]) -> _Seen:
        image, directions = task
        inputs: dict[Value, Array] = {}
        gradients: dict[Value, Array] = {}
        slid: dict[str, Array] = {}
        extremes: dict[str, tuple[float, float]] = {}

        def watch(name: str, x: Array) -> None:
            inputs[self._read[name]] = x.reshape(-1, x.shape[-1])

        def record(value: Value, x: Array, gradient: Array | None) -> None:
            inputs[value] = x.reshape(-1, x.shape[-1])
            if gradient is not None:
                gradients[value] = gradient.reshape(-1, x.shape[-1])

        def slide(name: str, x: Array) -> None:
            extremes[name] = float(x.min()), float(x.max())
            if name in self._slid:
                slid[name] = _some_windows(self._slid[name], x, self.n)

        if directions:
            drawn = {name: direction[None] for name, direction in directions.items()}
            outputs = record_gradients(self._network, image[None], drawn, record, slide)
        else:
            outputs = evaluate(self._network, image[None], watch, slide)
        energy = sum(float((each.astype(np.float64) ** 2).sum()) for each in outputs.values())
        return _Seen(energy, inputs, slid, extremes, gradients)

    def result(self, sha256: str) -> Statistics:
        """All that was seen; layers on one value share one object."""
        watched = {value: watcher.result() for value, watcher in self._watchers.items()}
        inputs = {name: watched[value] for name, value in self._read.items()}
        windows = {name: watcher.result() for name, watcher in self._windows.items()}
        energy = self._energy / self.n
        return Statistics(inputs, energy, self.n, sha256, windows, self._extremes)


def _is_watched(value: Value) -> bool:
    """Whether the windows of a value that is a dense convolution are looked at."""
    layer = value.operator
    is_dense = isinstance(layer, Convolution) and layer.groups == 1
    return is_dense and _numbers(value) <= _MOST_WINDOW_NUMBERS


def _numbers(convolution: Value) -> int:
    """The size of a window."""
    assert isinstance(convolution.operator, Convolution)
    return math.prod(convolution.operator.weight.shape[:-1])


def _some_windows(convolution: Value, x: Array, first: int) -> Array:
    """Windows of one image, evenly spread; ``first`` shifts them from image to image."""
    layer = convolution.operator
    assert isinstance(layer, Convolution)
    seen = windows(x, layer.weight.shape[:2], layer.strides, layer.padding, 0.0)[0]
    rows, columns = seen.shape[:2]
    stride = max(1, rows * columns // _MOMENT_WINDOWS)
    places = np.arange(first % stride, rows * columns, stride)
    chosen: Array = seen[places // columns, places % columns]
    numbers: Array = chosen.transpose(0, 2, 3, 1).reshape(len(places), -1)
    return numbers


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

    def add(self, images: Sequence[Array], first: int, most: int = _MOMENT_TOKENS) -> None:
        """Takes ``(tokens, inputs)`` of each image; ``first`` is the index of the first image.

        About ``most`` tokens of each image enter the second moments.
        """
        self._tokens = len(images[0])
        for x in images:
            np.minimum(self._low, x.min(axis=0), out=self._low)
            np.maximum(self._high, x.max(axis=0), out=self._high)
        stride = max(1, self._tokens // most)
        some = np.concatenate([x[first % stride :: stride] for x in images])
        self._sum += some.sum(axis=0)
        self._outer += some.T @ some
        self._count += len(some)

    def keep(self, tokens: Array, slopes: Array, rng: np.random.Generator) -> None:
        """Keeps some tokens of an image with their gradients, both ``(tokens, inputs)``."""
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
        """The statistics; to be asked for once."""
        width = len(self._low)
        lengths = [len(rows) for rows in self._rows]
        none = np.zeros((0, width), np.float32)
        counts: Array = np.concatenate([none[:, 0], *self._counts])
        counts /= np.float32(max(len(lengths), 1))
        return InputStatistics(
            low=self._low,
            high=self._high,
            mean=(self._sum / self._count).astype(np.float32),
            # In place: the moments of a large model take gigabytes.
            moments=np.divide(self._outer, np.float32(self._count), out=self._outer),
            tokens=self._tokens,
            count=self._count,
            rows=np.concatenate([none, *self._rows]),
            gradients=np.concatenate([none, *self._gradients]),
            counts=counts,
            images=np.repeat(np.arange(len(lengths)), lengths),
        )
