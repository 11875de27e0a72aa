"""A sigmoid or a softmax at a model's end that is spelled out, in exponentials or otherwise.

However it is written, it is what lies between two tensors of as many numbers; which of the two it
is shows when it is fed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vitedge.importers.lift.graph import Graph, Kind
from vitedge.importers.lift.probe import Experiments
from vitedge.network.kinds import Activation
from vitedge.network.numerics import activate
from vitedge.network.operators import Array

_FARTHEST = 8
"""How many tensors that all paths pass are tried; a softmax has its maximum, exponentials, sum and
quotient, and reshapes between them."""

_AGREEMENT = 1e-3
"""Largest error relative to the largest answer: models in half precision stay below."""

_LOUDNESS = 3.0
"""Standard deviation of what is fed: so far from zero no cheap substitute is near a sigmoid."""


@dataclass(frozen=True)
class Squash:
    """The function that makes answers of logits at a model's end.

    Attributes:
        op: ``Sigmoid``, ``Softmax`` or ``LogSoftmax``.
        name: The name of its last node, for messages.
        source: The tensor of logits that it reads.
    """

    op: str
    name: str
    source: str


def spelled_ending(experiments: Experiments) -> Squash | None:
    """The sigmoid or softmax that a model of one vector ends in, or None.

    Nothing is run where a model ends in a linear layer, as most do.
    """
    graph, found = experiments.graph, None
    source = graph.dominator(graph.output)
    for _ in range(_FARTHEST):
        if source is None or source == graph.image:
            break
        region = [graph.producer(each) for each in graph.between(source, graph.output)]
        if any(node.kind is Kind.CONTRACTION or "Conv" in node.op for node in region):
            break
        if not all(graph.is_affine(node) for node in region):
            op = _computed(experiments, source)
            if op is not None:  # the farthest counts: the maximum may be subtracted before
                found = Squash(op, graph.producer(graph.output).name, source)
        source = graph.dominator(source)
    return found


def _computed(experiments: Experiments, source: str) -> str | None:
    """The function of the vector in a tensor that the output is."""
    graph: Graph = experiments.graph
    shape, made = (experiments.shape(each) for each in (source, graph.output))
    if shape.elements != made.elements:
        return None
    n = experiments.batch_for(4)
    x = np.random.default_rng(0).normal(0, _LOUDNESS, (n, shape.elements)).astype(np.float32)
    run = experiments.between([source], [graph.output])
    y = made.split(run(shape.join(x.reshape(n, *shape.per_image)))[0]).reshape(n, -1)
    for op, function in _FUNCTIONS.items():
        expected = function(x)
        if y.shape == expected.shape and _is_near(y, expected):
            return op if op == "Sigmoid" or shape.elements > 1 else None
    return None


def _is_near(found: Array, expected: Array) -> bool:
    error = np.abs(found - expected).max()
    return bool(error <= _AGREEMENT * np.abs(expected).max())


def _softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": lambda x: activate(x, Activation.SIGMOID),
    "Softmax": _softmax,
    "LogSoftmax": lambda x: np.log(_softmax(x)),
}
