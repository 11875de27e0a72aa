"""Reading a linear layer off a model: feed basis vectors, read the rows of its matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.errors import NotAViTError
from vitedge.importers.lift.layout import Indices, Layout
from vitedge.importers.lift.probe import Experiments
from vitedge.network.operators import Array, Linear

AMPLITUDE = 1024.0
"""Length of the basis vectors: a power of two, so nothing is rounded, and so large that biases of
ordinary size hardly blur the matrix. float16 models still hold the products (up to 65504)."""

AGREEMENT = 2e-3
"""Largest error of a linear layer on random input, relative to its output. A wrong layout errs by
about 1; float16 models by 1e-3."""

_MOST_IMAGES = 8


@dataclass(frozen=True)
class Place:
    """A tensor read as ``(N, tokens, width)``."""

    tensor: str
    layout: Layout

    @property
    def tokens(self) -> int:
        """Rows per image."""
        return self.layout.sizes[0]

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.layout.sizes[1]


def tokenwise(
    experiments: Experiments, source: Place, target: Place, *, residual: str | None = None
) -> Linear:
    """The linear layer that leads from each token to the same token elsewhere.

    All tokens are probed at once, each with a basis vector of its own.

    Args:
        experiments: Access to the model.
        source: The place to feed.
        target: The place to read.
        residual: A tensor that is added to the target unchanged; zero while the layer is probed.

    Raises:
        NotAViTError: The map is not one linear layer for all tokens.
    """
    tokens, width = source.tokens, source.width
    n = experiments.batch_for(min(_MOST_IMAGES, math.ceil(width / tokens)))
    held = [] if residual is None else [residual]
    run = experiments.between([source.tensor, *held], [target.tensor])
    still = [experiments.shape(name) for name in held]

    def respond(rows: Array, others: Sequence[Array] = ()) -> Array:
        zeros = [shape.join(np.zeros((len(rows), *shape.per_image), np.float32)) for shape in still]
        return target.layout.read(run(source.layout.write(rows), *(others or zeros))[0])

    if target.tokens != tokens:
        raise _not_linear(experiments, source, target)
    few = experiments.batch_for(1)
    bias = respond(np.zeros((few, tokens, width), np.float32))[0, 0].copy()
    weight = np.empty((width, target.width), np.float32)
    for start in range(0, width, n * tokens):
        count = min(n * tokens, width - start)
        rows = np.zeros((n * tokens, width), np.float32)
        rows[np.arange(count), start + np.arange(count)] = AMPLITUDE
        answers = respond(rows.reshape(n, tokens, width)).reshape(n * tokens, -1)
        weight[start : start + count] = (answers[:count] - bias) / np.float32(AMPLITUDE)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((few, tokens, width), np.float32)
    others = [rng.standard_normal((few, *shape.per_image), np.float32) for shape in still]
    actual = respond(x, [shape.join(array) for shape, array in zip(still, others, strict=True)])[0]
    expected = x[0] @ weight + bias
    if others:
        # The stream may have been reshaped on its way, as for Keras 2's norms.
        added = others[0].reshape(few, *target.layout.shape.per_image)
        expected = expected + target.layout.read(target.layout.shape.join(added))[0]
    if not np.abs(actual - expected).max() <= AGREEMENT * np.abs(expected).max():
        raise _not_linear(experiments, source, target)
    return Linear(weight, bias)


def dense(
    experiments: Experiments, source: Place, target: Place, inputs: Indices | None = None
) -> Linear:
    """The linear layer from all of one tensor's image to all of another's.

    Args:
        experiments: Access to the model.
        source: The place to feed; its tokens and width together are the layer's inputs.
        target: The place to read.
        inputs: Indices of the inputs that count, int; None: all.

    Raises:
        NotAViTError: The map is not affine, or other inputs count, too.
    """
    size = source.tokens * source.width
    wanted = np.arange(size) if inputs is None else inputs
    # 16 MiB of input at once, or 64 images.
    n = experiments.batch_for(max(1, min(64, len(wanted), (1 << 22) // size)))
    run = experiments.between([source.tensor], [target.tensor])

    def respond(rows: Array) -> Array:
        fed = source.layout.write(rows.reshape(n, source.tokens, source.width))
        return target.layout.read(run(fed)[0]).reshape(n, -1)

    bias = respond(np.zeros((n, size), np.float32))[0].copy()
    weight = np.empty((len(wanted), len(bias)), np.float32)
    for start in range(0, len(wanted), n):
        part = wanted[start : start + n]
        rows = np.zeros((n, size), np.float32)
        rows[np.arange(len(part)), part] = AMPLITUDE
        weight[start : start + n] = (respond(rows)[: len(part)] - bias) / np.float32(AMPLITUDE)
    return Linear(weight, bias)


def _not_linear(experiments: Experiments, source: Place, target: Place) -> NotAViTError:
    before, after = (experiments.graph.describe(place.tensor) for place in (source, target))
    return NotAViTError(f"between node {before} and {after} lies no linear layer for each token")


def place_by_response(experiments: Experiments, source: Place, tensor: str) -> Place:
    """Finds out which axes of a tensor are channels: those along which one token's answer lies.

    Raises:
        NotAViTError: A token's answer is not a row of the tensor.
    """
    shape = experiments.shape(tensor)
    n = experiments.batch_for(1)
    run = experiments.between([source.tensor], [tensor])
    x = np.zeros((n, source.tokens, source.width), np.float32)
    quiet = shape.split(run(source.layout.write(x))[0])[0]
    x[0, source.tokens // 2] = np.random.default_rng(0).standard_normal(source.width) * AMPLITUDE
    loud = shape.split(run(source.layout.write(x))[0])[0]
    changed = np.argwhere(loud != quiet)
    axes = tuple(axis for axis in range(changed.shape[1]) if len(set(changed[:, axis])) > 1)
    place = Place(tensor, Layout.rows(shape, axes))
    if place.tokens != source.tokens or len(changed) > place.width:
        raise _not_linear(experiments, source, place)
    return place
