"""The values that a model takes: raw pixels, or pixels that the caller has normalised.

No file says so. Where the model starts with arithmetic of its own on the image (``Rescaling``,
``Normalization``), the numbers tell whether 0..255 or 0..1 goes in. Where it does not, we can only
assume, and say so: a model with channels last comes from Keras, whose users divide by 255; one
with channels first from PyTorch, whose users take ImageNet's mean and deviation, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.graph import Graph, Kind
from vitedge.importers.lift.probe import Experiments
from vitedge.network.operators import Array

_LARGEST_NORMALISED = 32.0
"""Normalised pixels stay within about 3; raw ones put through a rescaling for 0..1 reach 255 or
more."""


@dataclass(frozen=True)
class InputRange:
    """The input of a model: ``(pixels / 255 - mean) / std``, or raw pixels.

    Attributes:
        raw: The model takes 0..255; then mean and std are what it does inside.
        mean: Per channel, of pixels scaled to 0..1.
        std: Per channel.
        words: The evidence for it, for reports.
        neutral: Per channel, the input that the model's own arithmetic turns into zero.
        factor: Per channel, what its own arithmetic multiplies the input with.
        end: The tensor that its own arithmetic ends with; the image where there is none.
        assumed: Nothing of the model says so.
    """

    raw: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    words: str
    neutral: tuple[float, ...]
    factor: tuple[float, ...]
    end: str
    assumed: bool = False

    @property
    def whole(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std of pixels scaled to 0..1 behind the model's own arithmetic."""
        if self.raw:
            return self.mean, self.std
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        means = mean + std * np.asarray(self.neutral)
        return tuple(map(float, means)), tuple(map(float, std / np.asarray(self.factor)))

    def apply(self, pixels: Array) -> Array:
        """Raw pixels 0..255 ``(N, H, W, C)`` to what the model takes."""
        if self.raw:
            return pixels.astype(np.float32)
        scaled = pixels.astype(np.float32) / np.float32(255)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return ((scaled - mean) / std).astype(np.float32)


def input_range(
    experiments: Experiments,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> InputRange:
    """Finds out, or assumes, what the model takes.

    Args:
        experiments: Access to the model.
        mean: The mean that the caller gives; together with ``std`` it is believed.
        std: The standard deviation that the caller gives.
    """
    shape = experiments.probe.image_shape
    first = channels_first(shape)
    channels = shape[0] if first else shape[2]
    nothing, one = (0.0,) * channels, (1.0,) * channels
    found = _first_arithmetic(experiments)
    factor, offset = found or (np.ones(channels), np.zeros(channels))
    neutral = tuple(float(value) for value in -offset / factor)
    graph = experiments.graph
    rest = tuple(map(float, factor)), graph.image if found is None else _end_of_arithmetic(graph)

    def normalised(words: str, by: tuple[float, ...], over: tuple[float, ...]) -> InputRange:
        return InputRange(False, by, over, words, neutral, *rest)

    if mean is not None or std is not None:
        return normalised("normalised as given", mean or nothing, std or one)
    if found is not None:
        if max(np.abs(offset).max(), np.abs(255 * factor + offset).max()) > _LARGEST_NORMALISED:
            return normalised("takes 0..1 and normalises inside", nothing, one)
        inner_mean = tuple(round(value / 255, 6) for value in neutral)
        inner_std = tuple(round(1 / (255 * float(value)), 6) for value in factor)
        return InputRange(True, inner_mean, inner_std, "normalises inside", neutral, *rest)
    if experiments.probe.takes_integers:
        return InputRange(True, nothing, one, "takes integer pixels", neutral, *rest)
    if first and channels == 3:
        usual = normalised("assumed: ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD)
    else:
        usual = normalised("assumed: pixels / 255", nothing, one)
    return replace(usual, assumed=True)


def _first_arithmetic(experiments: Experiments) -> tuple[Array, Array] | None:
    """Factor and offset per channel of what the model does to pixels, or None if nothing."""
    graph = experiments.graph
    last = _end_of_arithmetic(graph)
    shape = experiments.probe.image_shape
    if last == graph.image or experiments.shape(last).elements != np.prod(shape):
        return None
    sizes = experiments.shape(last).per_image
    made = (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 else shape
    run = experiments.between([graph.image], [last])
    n = experiments.batch_for(1)

    def per_channel(value: float) -> Array:
        image: Array = run(np.full((n, *shape), value, np.float32))[0].reshape(n, *made)[0]
        return image[:, 0, 0] if channels_first(made) else image[0, 0]

    # Far from zero, so that the offset does not round the factor.
    far = 255.0 if experiments.probe.takes_integers else 65536.0
    offset = per_channel(0.0)
    factor = (per_channel(far) - offset) / np.float32(far)
    return (factor, offset) if (factor > 0).all() else None


def _end_of_arithmetic(graph: Graph) -> str:
    """The last tensor before the image is cut up or contracted; the image if nothing is done."""
    tensor, last = graph.image, graph.image
    while len(graph.consumers(tensor)) == 1 and tensor != graph.output:
        node = graph.consumers(tensor)[0]
        turns = node.op == "Transpose"  # to channels first
        if not turns and node.kind not in (Kind.MOVE, Kind.SUM, Kind.PRODUCT, Kind.QUOTIENT):
            break
        if len(graph.live_inputs(node)) != 1 or not graph.is_affine(node):
            break
        tensor = node.outputs[0]
        if not turns and node.kind is not Kind.MOVE:
            last = tensor
    return last
