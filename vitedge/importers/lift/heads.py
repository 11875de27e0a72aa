"""The projections of one attention, in head-major order and with heads of equal width."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from vitedge.errors import NotAViTError
from vitedge.importers.lift.attention import Attention, Operand
from vitedge.importers.lift.layout import Layout
from vitedge.importers.lift.linear import Place, tokenwise
from vitedge.importers.lift.nature import NormPiece
from vitedge.importers.lift.probe import Experiments
from vitedge.network.kinds import NormKind
from vitedge.network.operators import Array, Linear, Norm


@dataclass(frozen=True)
class Projections:
    """Queries, keys and values as a ``Block`` holds them; ``scale`` is yet to be folded."""

    q: Linear
    k: Linear
    v: Linear
    q_norm: Norm | None
    k_norm: Norm | None


def heads_last(operand: Operand) -> Place:
    """``(N, heads, tokens, width)`` read as ``(N, tokens, heads * width)``."""
    heads, tokens, width = operand.layout.groups
    return Place(operand.tensor, Layout(operand.layout.shape, (tokens, heads + width)))


def widen(values: Array, own_heads: int, heads: int, head_dim: int) -> Array:
    """Brings the last axis from ``own_heads * width`` to ``heads * head_dim``.

    One head is shared by all; missing width is filled with zeros, which change no product.
    """
    parts = values.reshape(*values.shape[:-1], own_heads, -1)
    if own_heads != heads:
        parts = np.repeat(parts, heads // own_heads, axis=-2)
    missing = head_dim - parts.shape[-1]
    padding = [(0, 0)] * (parts.ndim - 1) + [(0, missing)]
    padded = np.pad(parts, padding) if missing else parts
    return np.ascontiguousarray(padded.reshape(*values.shape[:-1], -1))


def project(
    experiments: Experiments,
    read: Place,
    attention: Attention,
    norms: tuple[NormPiece | None, NormPiece | None],
    head_dim: int,
) -> Projections:
    """Probes the projections of an attention.

    Args:
        experiments: Access to the model.
        read: The tokens that the attention reads.
        attention: The attention.
        norms: The norms of queries and keys.
        head_dim: Width of every head of the result.

    Raises:
        NotAViTError: A projection is not a linear layer, or its norm no LayerNorm of each head.
    """
    linears, own_norms = [], []
    for operand, piece in zip((attention.q, attention.k, attention.v), (*norms, None), strict=True):
        place, norm = heads_last(operand), None
        if piece is not None:
            place, norm = _before_norm(experiments, operand, piece, head_dim)
        layer = tokenwise(experiments, read, place)
        own = operand.layout.sizes[0]
        wide = (widen(part, own, attention.heads, head_dim) for part in (layer.weight, layer.bias))
        linears.append(Linear(*wide))
        own_norms.append(norm)
    q, k, v = linears
    factor = attention.scale / head_dim**-0.5
    if abs(factor - 1) > 1e-5:  # below, it is the rounding of the source's own scale
        q, own_norms[0] = _scaled(q, own_norms[0], np.float32(factor))
    return Projections(q, k, v, own_norms[0], own_norms[1])


def _scaled(q: Linear, norm: Norm | None, factor: np.float32) -> tuple[Linear, Norm | None]:
    if norm is not None:
        return q, Norm(norm.gamma * factor, norm.beta * factor, norm.eps)
    return Linear(q.weight * factor, q.bias * factor), None


def _before_norm(
    experiments: Experiments, operand: Operand, piece: NormPiece, head_dim: int
) -> tuple[Place, Norm]:
    """The normed operand as it is before its norm, and the norm with later factors in it."""
    where = experiments.graph.describe(piece.piece.sink)
    heads, tokens, width = operand.layout.sizes
    if piece.kind is not NormKind.LAYER or piece.source.sizes[1] != width or width != head_dim:
        raise NotAViTError(
            f"the norm of queries or keys at node {where} is not a LayerNorm of a head"
        )
    n = experiments.batch_for(1)
    run = experiments.between([piece.piece.sink], [operand.tensor])
    rows, channels = piece.sink.sizes

    def arrive(values: Array) -> Array:
        filled = np.broadcast_to(values.reshape(-1, rows, channels), (n, rows, channels))
        written = piece.sink.write(filled.astype(np.float32))
        arrived: Array = operand.layout.read(run(written)[0])[0]
        return arrived

    factor = float(arrive(np.ones((rows, channels), np.float32)).mean())
    # Counted from 1, so that a lost element cannot pass for the first one.
    numbers = arrive(np.arange(1, rows * channels + 1, dtype=np.float32)) / factor
    for layout in _splits(piece.source, heads):
        if layout.sizes != (heads, tokens, width):
            continue
        # A norm keeps the order of rows, whatever shape its result has.
        written = np.arange(1, rows * channels + 1, dtype=np.float32).reshape(1, rows, channels)
        expected = layout.read(piece.source.write(np.repeat(written, n, axis=0)))[0]
        if np.abs(numbers - expected).max() < 0.5:
            norm = piece.norm
            scaled = Norm(norm.gamma * np.float32(factor), norm.beta * np.float32(factor), norm.eps)
            return heads_last(Operand(piece.piece.source, layout)), scaled
    raise NotAViTError(f"after node {where}, queries or keys are more than moved")


def _splits(layout: Layout, heads: int) -> list[Layout]:
    """All ways to tell heads from tokens among the axes of the rows."""
    rows, channels = layout.groups
    found = []
    for count in range(len(rows) + 1):
        for chosen in itertools.combinations(rows, count):
            others = tuple(axis for axis in rows if axis not in chosen)
            split = Layout(layout.shape, (chosen, others, channels))
            if split.sizes[0] == heads:
                found.append(split)
    return found
