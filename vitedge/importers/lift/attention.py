"""Attention: a softmax between two contractions of live tensors."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.errors import NotAViTError
from vitedge.importers.lift.graph import Node
from vitedge.importers.lift.layout import Layout
from vitedge.importers.lift.nature import SoftmaxPiece
from vitedge.importers.lift.probe import Experiments

_AGREEMENT = 1e-3
"""Relative; what separates a constant scale from a position bias. float16 keeps 1e-3."""


@dataclass(frozen=True)
class Operand:
    """A tensor that attention reads or makes; ``layout`` reads ``(N, heads, tokens, width)``."""

    tensor: str
    layout: Layout


@dataclass(frozen=True)
class Attention:
    """One attention: ``softmax(scale * q kᵀ) v`` for each head.

    Attributes:
        node: The node of the softmax, for messages.
        q: Queries; one head means that all share it, as for k and v.
        k: Keys.
        v: Values.
        mixed: The result.
        scale: Factor between the products and the softmax.
    """

    node: str
    q: Operand
    k: Operand
    v: Operand
    mixed: Operand
    scale: float

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.mixed.layout.sizes[0]

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.k.layout.sizes[1]


def find_attentions(
    experiments: Experiments, softmaxes: Sequence[SoftmaxPiece], stops: frozenset[str]
) -> list[Attention]:
    """The attention around each softmax.

    Args:
        experiments: Access to the model.
        softmaxes: All of them, but not one that ends the model.
        stops: The sinks of all non-linear pieces and the results of all bilinear nodes.

    Raises:
        NotAViTError: A softmax or a bilinear node is not a part of an attention.
    """
    graph = experiments.graph
    bilinear = {node.outputs[0]: node for node in graph.live_nodes if graph.is_bilinear(node)}
    for node in bilinear.values():
        experiments.measure([*node.inputs, *node.outputs])
    found = []
    for softmax in softmaxes:
        scores = graph.sources(softmax.piece.source, stops)
        users = [
            node
            for node in bilinear.values()
            if any(graph.sources(tensor, stops) == {softmax.piece.sink} for tensor in node.inputs)
        ]
        where = graph.describe(softmax.piece.sink)
        if len(scores) != 1 or not scores <= set(bilinear) or len(users) != 1:
            raise NotAViTError(f"the softmax {where} is not that of an attention")
        products = bilinear.pop(next(iter(scores)))
        mixing = bilinear.pop(users[0].outputs[0])
        found.append(_attention(experiments, softmax, products, mixing, stops))
    for node in bilinear.values():
        raise NotAViTError(f"node {node} multiplies two results outside of a softmax attention")
    return found


def _attention(
    experiments: Experiments,
    softmax: SoftmaxPiece,
    products: Node,
    mixing: Node,
    stops: frozenset[str],
) -> Attention:
    graph = experiments.graph
    left, right, out = _operands(experiments, products)
    scale, left_is_query = _scale(experiments, softmax, out)
    q, k = (left, right) if left_is_query else (right, left)
    first, second, mixed = _operands(experiments, mixing)
    if graph.sources(first.tensor, stops) == {softmax.piece.sink}:
        v, transposed = second, False
    else:
        v, transposed = first, True
    # Free axes of the result come in the order of the operands: (queries, width) or reversed;
    # the contraction of v is over tokens, its free axis is the width.
    heads, rows, columns = mixed.layout.groups
    groups = (heads, columns, rows) if transposed else (heads, rows, columns)
    mixed = Operand(mixed.tensor, Layout(mixed.layout.shape, groups))
    group, width, tokens = v.layout.groups
    v = Operand(v.tensor, Layout(v.layout.shape, (group, tokens, width)))
    if not q.layout.sizes[1] == k.layout.sizes[1] == v.layout.sizes[1]:
        raise NotAViTError(
            f"the attention of node {graph.describe(softmax.piece.sink)} has "
            f"{q.layout.sizes[1]} queries for {k.layout.sizes[1]} keys"
        )
    return Attention(graph.describe(softmax.piece.sink), q, k, v, mixed, scale)


def _operands(experiments: Experiments, node: Node) -> tuple[Operand, Operand, Operand]:
    """The operands as ``(heads, free, contracted)``, and the result as ``(heads, left, right)``."""
    names = (*node.inputs[:2], node.outputs[0])
    shapes = [experiments.shape(name) for name in names]
    a, b, out = _letters(node.equation, [len(shape.per_image) for shape in shapes])
    heads = [letter for letter in out if letter in a and letter in b]
    left = [letter for letter in a if letter in out and letter not in b]
    right = [letter for letter in b if letter in out and letter not in a]
    inner = [letter for letter in a if letter in b and letter not in out]
    wanted = ((a, (heads, left, inner)), (b, (heads, right, inner)), (out, (heads, left, right)))
    operands = []
    for name, shape, (letters, groups) in zip(names, shapes, wanted, strict=True):
        axes = tuple(tuple(letters.index(letter) for letter in group) for group in groups)
        if sorted(axis for group in axes for axis in group) != list(range(len(letters))):
            raise NotAViTError(f"node {node} is not a product of queries, keys or values")
        operands.append(Operand(name, Layout(shape, axes)))
    return operands[0], operands[1], operands[2]


def _letters(equation: str, ranks: list[int]) -> tuple[str, str, str]:
    """The letters of both operands and the result, with ``...`` written out."""
    inputs, _, out = equation.replace(" ", "").partition("->")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    expanded = []
    for term, rank in zip([*inputs.split(","), out], ranks, strict=True):
        missing = rank - len(term.replace("...", ""))
        # Leading axes are aligned at their end, as NumPy broadcasts.
        expanded.append(term.replace("...", "".join(free[:8][8 - missing :]) if missing else ""))
    return expanded[0], expanded[1], expanded[2]


def _scale(experiments: Experiments, softmax: SoftmaxPiece, out: Operand) -> tuple[float, bool]:
    """The factor before the softmax, and whether the left operand holds the queries."""
    n = experiments.batch_for(1)
    run = experiments.between([out.tensor], [softmax.piece.source])
    heads, left, right = out.layout.sizes
    shape = experiments.shape(softmax.piece.source)

    def scores(products: np.ndarray) -> np.ndarray:
        filled = np.broadcast_to(products, (n, heads, left, right)).astype(np.float32)
        return shape.split(run(out.layout.write(filled))[0])

    bias, ones = scores(np.zeros(1)), scores(np.ones(1))
    axis = 1 + softmax.axis
    if np.ptp(bias, axis=axis).max() > _AGREEMENT or np.ptp(ones - bias) > _AGREEMENT:
        where = experiments.graph.describe(softmax.piece.sink)
        raise NotAViTError(
            f"the attention of node {where} adds a position bias or a mask, or mixes its heads"
        )
    by_left = scores(np.arange(left).reshape(left, 1))
    scale = float((ones - bias).mean())
    return scale, bool(np.ptp(by_left - bias, axis=axis).max() < abs(scale) / 2)
