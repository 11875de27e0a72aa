"""Finds out what a non-linear piece computes, by feeding it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from vitedge.importers.lift.layout import Indices, Layout, Shape
from vitedge.importers.lift.pieces import Piece
from vitedge.importers.lift.probe import Experiment, Experiments
from vitedge.network.kinds import MLP_ACTIVATIONS, Activation, NormKind
from vitedge.network.numerics import activate
from vitedge.network.operators import Array, Norm

_AGREEMENT = 1e-3
"""Largest error of a norm's fit relative to its output, and absolute error of an activation on
-8..8: float16 models stay below, GELU and its nearest cousin, the tanh form, differ by 5e-4 and are
told apart by which of them is nearer."""

_LOUD = 32.0
"""Standard deviation at which no epsilon in use (up to 1e-3) is seen."""


@dataclass(frozen=True)
class NormPiece:
    """A norm over the channels of each row.

    Attributes:
        piece: The place of the norm in the graph.
        source: Rows and channels of the tensor that goes in.
        sink: Rows and channels of the tensor that comes out.
        norm: Its vectors.
        kind: Whether it centres.
    """

    piece: Piece
    source: Layout
    sink: Layout
    norm: Norm
    kind: NormKind


@dataclass(frozen=True)
class ActivationPiece:
    """An element-by-element function."""

    piece: Piece
    activation: Activation


@dataclass(frozen=True)
class SoftmaxPiece:
    """A softmax over ``axis`` of the source (without the batch)."""

    piece: Piece
    axis: int


KnownPiece: TypeAlias = NormPiece | ActivationPiece | SoftmaxPiece


def recognize(experiments: Experiments, piece: Piece) -> KnownPiece | None:
    """Tells what a piece computes, or None when it is nothing of a vision transformer's."""
    source, sink = (experiments.shape(name) for name in (piece.source, piece.sink))
    if source.elements != sink.elements:
        return None
    run = experiments.between([piece.source], [piece.sink])
    n = experiments.batch_for(1)
    changed = _changed_coordinates(run, source, sink, n)
    if len(changed) == 1:
        # Without the reshape that may follow: the layer before and the one after see one layout.
        return _activation(piece, run, source, n) if source == sink else None
    axes = tuple(axis for axis in range(changed.shape[1]) if len(set(changed[:, axis])) > 1)
    width = int(np.prod([sink.per_image[axis] for axis in axes]))
    if not axes:
        return None
    is_whole = len(changed) == width
    if is_whole and source == sink and len(axes) == 1 and _is_softmax(run, source, axes[0], n):
        return SoftmaxPiece(piece, axes[0])
    for channels in _channel_axes(source, sink, axes):
        layouts = Layout.rows(source, channels), Layout.rows(sink, axes)
        found = _norm(run, *layouts, n)
        # Where a gamma is zero nothing changes; so is all that some other function leaves alone.
        if found is not None and (is_whole or np.any(found[0].gamma == 0)):
            return NormPiece(piece, *layouts, *found)
    return None


def _changed_coordinates(run: Experiment, source: Shape, sink: Shape, n: int) -> Indices:
    """Coordinates, ``(count, rank)``, in the first image's output that one element acts on."""
    x = np.random.default_rng(0).standard_normal((n, *source.per_image)).astype(np.float32)
    element = tuple(map(int, np.unravel_index(source.elements // 2, source.per_image)))
    x[(0, *element)] = 0.5
    before = sink.split(run(source.join(x))[0])[0]
    changed = np.zeros(before.shape, bool)
    # Two changes: where a norm moves mean and deviation alike, one of thousands stays by chance.
    for number in (3.5, -4.5):
        x[(0, *element)] = number
        after = sink.split(run(source.join(x))[0])[0]
        # One element in 10,000 still moves the others by more than 1e-6 through mean or sum.
        changed |= np.abs(after - before) > 1e-7 * np.abs(before).max()
    return np.argwhere(changed)


def _channel_axes(source: Shape, sink: Shape, axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The axes of the source that may be the channels, when those of the sink are known."""
    if source.per_image == sink.per_image:
        return [axes]
    width = np.prod([sink.per_image[axis] for axis in axes])
    return [(axis,) for axis, size in reversed([*enumerate(source.per_image)]) if size == width]


def _activation(piece: Piece, run: Experiment, shape: Shape, n: int) -> ActivationPiece | None:
    x = np.linspace(-8, 8, n * shape.elements, dtype=np.float32)
    x = np.random.default_rng(0).permutation(x).reshape(n, *shape.per_image)
    y = shape.split(run(shape.join(x))[0])
    errors = {
        kind: float(np.abs(activate(x.ravel(), kind) - y.ravel()).max()) for kind in MLP_ACTIVATIONS
    }
    best = min(errors, key=errors.__getitem__)
    return ActivationPiece(piece, best) if errors[best] < _AGREEMENT else None


def _is_softmax(run: Experiment, shape: Shape, axis: int, n: int) -> bool:
    x = np.random.default_rng(0).standard_normal((n, *shape.per_image)).astype(np.float32)
    exponentials = np.exp(x)
    expected = exponentials / exponentials.sum(axis=1 + axis, keepdims=True)
    error = np.abs(shape.split(run(shape.join(x))[0]) - expected).max()
    return bool(error < _AGREEMENT * expected.max())


def _norm(run: Experiment, source: Layout, sink: Layout, n: int) -> tuple[Norm, NormKind] | None:
    """Fits gamma, beta and epsilon; None when no norm fits."""
    rows, width = source.sizes
    if sink.sizes != source.sizes or width < 2:
        return None

    def apply(x: Array) -> Array:
        return sink.read(run(source.write(x))[0]).reshape(-1, width)

    beta = apply(np.zeros((n, rows, width), np.float32))
    if not np.isfinite(beta).all():  # 0 / 0: numbers over their sum are not a norm
        return None
    if np.abs(beta - beta[0]).max() > _AGREEMENT * max(1.0, float(np.abs(beta).max())):
        return None
    rng = np.random.default_rng(0)
    x: list[Array] = []
    y: list[Array] = []
    while len(x) * n * rows < 8:  # so many rows tell a norm from another one
        x.append(rng.standard_normal((n, rows, width)).astype(np.float32) * _LOUD + _LOUD)
        y.append(apply(x[-1]))
    inputs, outputs = np.concatenate(x).reshape(-1, width), np.concatenate(y) - beta[0]
    for kind in NormKind:
        directions = _directions(inputs, kind)
        gamma = (outputs * directions).sum(axis=0) / (directions**2).sum(axis=0)
        if np.abs(outputs - gamma * directions).max() > _AGREEMENT * np.abs(outputs).max():
            continue
        eps = _epsilon(apply, (n, rows, width), gamma, beta[0])
        return Norm(gamma.astype(np.float32), beta[0].copy(), eps), kind
    return None


def _directions(x: Array, kind: NormKind) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True) if kind is NormKind.LAYER else x
    scaled: Array = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    return scaled


def _epsilon(
    apply: Callable[[Array], Array], shape: tuple[int, ...], gamma: Array, beta: Array
) -> float:
    """Epsilon from ever quieter inputs: scale / sqrt(scale² + epsilon) is how much survives."""
    rng = np.random.default_rng(1)
    width = shape[-1]
    best, distance = 0.0, 0.5
    for exponent in range(1, 8):
        scale = 10.0**-exponent
        directions = _directions(
            rng.standard_normal((shape[0] * shape[1], width), np.float32), NormKind.LAYER
        )
        # The first row only: rows may be many, and each tells the same.
        y = apply((directions * np.float32(scale)).reshape(shape))[0].astype(np.float64)
        full = gamma * directions[0]
        survival = float(((y - beta) * full).sum() / (full * full).sum())
        if 0 < survival < 1 and abs(survival - 0.5) < distance:
            best, distance = scale**2 * (survival**-2 - 1), abs(survival - 0.5)
    return float(f"{best:.2g}")
