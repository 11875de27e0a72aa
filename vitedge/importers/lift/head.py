"""Makes logits of the last tokens: which tokens are read, and the layers of the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.elements.kinds import Pooling
from vitedge.errors import NotAViTError
from vitedge.importers.lift.layout import Indices, Layout
from vitedge.importers.lift.linear import AGREEMENT, AMPLITUDE, Place, dense
from vitedge.importers.lift.nature import ActivationPiece, NormPiece
from vitedge.importers.lift.probe import Experiments
from vitedge.network.kinds import Activation
from vitedge.network.operators import Array, Linear, Norm


@dataclass(frozen=True)
class Head:
    """The way in which a model makes logits.

    Attributes:
        pooling: The tokens that it reads.
        order: The model's rows of tokens: those read one by one, other prefix tokens, patches.
        pooled_norm: Norm after pooling.
        layers: The linear layers; the last one makes the logits.
        activation: Between the layers.
    """

    pooling: Pooling
    order: Indices
    pooled_norm: Norm | None
    layers: tuple[Linear, ...]
    activation: Activation


def read_head(
    experiments: Experiments,
    tokens: Place,
    prefix_rows: Indices,
    patch_rows: Indices,
    tail: Sequence[NormPiece | ActivationPiece],
) -> Head:
    """Probes what follows the last block (and its norm).

    Args:
        experiments: Access to the model.
        tokens: The tokens that the head reads.
        prefix_rows: The rows of ``tokens`` that are not patches.
        patch_rows: The rows of the patches.
        tail: The pieces between ``tokens`` and the logits.

    Raises:
        NotAViTError: The head is not a pooling followed by linear layers.
    """
    norm, activations = _split(experiments, tail)
    kind = activations[0].activation if activations else Activation.TANH
    sources = [] if norm is None else [Place(norm.piece.sink, norm.sink)]
    targets = [] if norm is None else [Place(norm.piece.source, norm.source)]
    for known in activations:
        targets.append(_flat(experiments, known.piece.source))
        sources.append(_flat(experiments, known.piece.sink))
    targets.append(_flat(experiments, experiments.graph.output))

    responses = _responses(experiments, tokens, targets[0])
    pooling, order = _pooling(responses, prefix_rows, patch_rows)
    if norm is None:
        first = [_pooled_layer(experiments, tokens, targets[0], pooling, order, len(patch_rows))]
    else:
        _check_pooling(experiments, tokens, targets[0], pooling, order, len(prefix_rows))
        first = []
    rest = [
        dense(experiments, source, target)
        for source, target in zip(sources, targets[1:], strict=True)
    ]
    return Head(pooling, order, None if norm is None else norm.norm, (*first, *rest), kind)


def _split(
    experiments: Experiments, tail: Sequence[NormPiece | ActivationPiece]
) -> tuple[NormPiece | None, list[ActivationPiece]]:
    """The norm of the pooled tokens, if there is one, and the activations after it."""
    first = tail[0] if tail else None
    norm = first if isinstance(first, NormPiece) else None
    rest = tail if norm is None else tail[1:]
    activations = [known for known in rest if isinstance(known, ActivationPiece)]
    if len(activations) != len(rest) or len({known.activation for known in activations}) > 1:
        raise NotAViTError(
            f"node {experiments.graph.describe(tail[-1].piece.sink)} follows the blocks, but a "
            "head has at most one norm and one kind of activation"
        )
    return norm, activations


def _flat(experiments: Experiments, tensor: str) -> Place:
    shape = experiments.shape(tensor)
    every = tuple(range(len(shape.per_image)))
    return Place(tensor, Layout(shape, ((), every)))


def _responses(experiments: Experiments, tokens: Place, target: Place) -> Array:
    """The effect of each token alone on the target, ``(tokens, target)``."""
    n = experiments.batch_for(min(32, tokens.tokens))
    run = experiments.between([tokens.tensor], [target.tensor])

    def respond(x: Array) -> Array:
        return target.layout.read(run(tokens.layout.write(x))[0]).reshape(n, -1)

    vector = np.random.default_rng(0).standard_normal(tokens.width) * AMPLITUDE
    nothing = respond(np.zeros((n, tokens.tokens, tokens.width), np.float32))
    answers = []
    for start in range(0, tokens.tokens, n):
        x = np.zeros((n, tokens.tokens, tokens.width), np.float32)
        for image, token in enumerate(range(start, min(start + n, tokens.tokens))):
            x[image, token] = vector
        answers.append(respond(x) - nothing)
    return np.concatenate(answers)[: tokens.tokens]


def _pooling(
    responses: Array, prefix_rows: Indices, patch_rows: Indices
) -> tuple[Pooling, Indices]:
    """Reads the pooling off the tokens' responses; the tokens that count come first."""
    loudest = np.abs(responses).max()
    heard = np.abs(responses).max(axis=1) > 1e-6 * loudest
    prefix = np.concatenate([prefix_rows[heard[prefix_rows]], prefix_rows[~heard[prefix_rows]]])
    order = np.concatenate([prefix, patch_rows]).astype(np.int64)
    single = int(heard[prefix_rows].sum())
    patches = responses[patch_rows]
    even = np.abs(patches - patches[0]).max() <= AGREEMENT * np.abs(patches).max()
    if not heard[patch_rows].any() and single in (1, 2):
        return (Pooling.CLASS, Pooling.DISTILLED)[single - 1], order
    if heard[patch_rows].all() and even and single in (0, 1):
        return (Pooling.MEAN, Pooling.CLASS_AND_MEAN)[single], order
    return Pooling.FLATTEN, np.concatenate([prefix_rows, patch_rows]).astype(np.int64)


def _pooled_layer(
    experiments: Experiments,
    tokens: Place,
    target: Place,
    pooling: Pooling,
    order: Indices,
    patches: int,
) -> Linear:
    """The linear layer after pooling, from the tokens that stand for it."""
    singles = {Pooling.CLASS: 1, Pooling.DISTILLED: 2, Pooling.CLASS_AND_MEAN: 1}.get(pooling, 0)
    read = list(order) if pooling is Pooling.FLATTEN else list(order[:singles])
    if pooling in (Pooling.MEAN, Pooling.CLASS_AND_MEAN):
        read.append(order[-1])
    inputs = (np.asarray(read)[:, None] * tokens.width + np.arange(tokens.width)).ravel()
    layer = dense(experiments, tokens, target, inputs)
    if pooling in (Pooling.MEAN, Pooling.CLASS_AND_MEAN):
        layer.weight[-tokens.width :] *= np.float32(patches)
    return layer


def _check_pooling(
    experiments: Experiments,
    tokens: Place,
    target: Place,
    pooling: Pooling,
    order: Indices,
    prefix: int,
) -> None:
    """Before a norm, pooling must be exactly what its name says."""
    n = experiments.batch_for(1)
    shape = (n, tokens.tokens, tokens.width)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (answer,) = experiments.run({tokens.tensor: tokens.layout.write(x)}, [target.tensor])
    parts = {
        Pooling.CLASS: [x[:, order[0]]],
        Pooling.DISTILLED: [x[:, order[0]], x[:, order[1]]],
        Pooling.MEAN: [x[:, order[prefix:]].mean(axis=1)],
        Pooling.CLASS_AND_MEAN: [x[:, order[0]], x[:, order[prefix:]].mean(axis=1)],
        Pooling.FLATTEN: [x[:, row] for row in order],
    }[pooling]
    expected = np.concatenate(parts, axis=1)
    actual = target.layout.read(answer).reshape(n, -1)
    if actual.shape != expected.shape or np.abs(actual - expected).max() > AGREEMENT:
        where = experiments.graph.describe(target.tensor)
        raise NotAViTError(f"node {where} normalises something else than pooled tokens")
