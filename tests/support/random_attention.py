"""Ways to mix tokens, as real models have them and worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.random_weights import Weights
from vitedge.elements.attention import AttentionWeights, Pass, attend, attention, by_head, joined
from vitedge.elements.relative_bias import relative_bias
from vitedge.elements.rope import Pairing, rope
from vitedge.elements.windows import windows
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Constant,
    Multiply,
    Product,
    Reshape,
    Softmax,
    Take,
    Transpose,
)

DIM, HEADS, WIDTH, GRID = 12, 2, 4, 4


class Parts:
    """Makes norms and attentions of a network with random weights."""

    def __init__(self, seed: int, prefix_tokens: int, kind: NormKind) -> None:
        self.net = Builder()
        self.weights = Weights(np.random.default_rng(seed))
        self.prefix_tokens, self.kind = prefix_tokens, kind

    def norm(self, x: Value, name: str) -> Value:
        return self.net(name, self.weights.norm(x.shape[-1], self.kind), x)

    def attention_weights(self, norms: NormKind | None = None) -> AttentionWeights:
        weights, wide = self.weights, HEADS * WIDTH
        q, k, v = (weights.linear(DIM, wide) for _ in range(3))
        q_norm, k_norm = (weights.norm(WIDTH, norms) if norms else None for _ in range(2))
        return AttentionWeights(q, k, v, weights.linear(wide, DIM), q_norm, k_norm)

    def attend(self, x: Value, name: str, **words: Pass | None) -> Value:
        return attention(
            self.net, x, self.attention_weights(), name, heads=HEADS, scale=0.5, **words
        )


def _normed(kind: NormKind) -> Callable[[Parts, Value, str], Value]:
    def mix(made: Parts, x: Value, name: str) -> Value:
        scale = 4.0 if kind is NormKind.L2 else 0.5
        weights = made.attention_weights(kind)
        return attention(made.net, x, weights, name, heads=HEADS, scale=scale)

    return mix


def _rotary(made: Parts, x: Value, name: str) -> Value:
    angles = made.weights.array(GRID * GRID, WIDTH // 2)
    pairing = made.weights.one_of(tuple(Pairing))
    turn = rope(angles, pairing, prefix_tokens=made.prefix_tokens)
    return made.attend(x, name, turn=turn)


def _biased(made: Parts, x: Value, name: str) -> Value:
    bias = relative_bias(made.weights.array(HEADS, *(made.prefix_tokens + GRID * GRID,) * 2))
    return made.attend(x, name, add_to_scores=bias)


def _windowed(made: Parts, x: Value, name: str) -> Value:
    bias = relative_bias(made.weights.array(HEADS, 4, 4))
    shift = made.weights.one_of(((0, 0), (1, 1)))
    return windows(
        made.net, x, lambda _, each: made.attend(each, name, add_to_scores=bias), name,
        grid=(GRID, GRID), window=(2, 2), shift=shift,
    )  # fmt: skip


def _talking(made: Parts, x: Value, name: str) -> Value:
    """Heads are mixed before the softmax (arXiv:2003.02436), behind it, or scaled one by one."""
    net, weights = made.net, made.weights
    q, k, v = _queries_keys_values(made, x, name)
    scores = net(f"{name}/scores", Product(transposed=True), q, k)
    where = weights.one_of(("before", "behind", "scaled"))
    if where == "before":
        scores = _over_heads(made, scores, f"{name}/before")
    elif where == "scaled":
        factors = Constant(weights.array(HEADS, 1, 1, shift=1.0))
        scores = net(f"{name}/scaled", Multiply(), scores, net(f"{name}/factors", factors))
    shares = net(f"{name}/softmax", Softmax(), scores)
    if where == "behind":
        shares = _over_heads(made, shares, f"{name}/behind")
    mixed = net(f"{name}/mixed", Product(), shares, v)
    return net(f"{name}.out", weights.linear(HEADS * WIDTH, DIM), joined(net, mixed, name))


def _over_heads(made: Parts, x: Value, name: str) -> Value:
    last = made.net(f"{name}/last", Transpose((1, 2, 0)), x)
    mixed = made.net(name, made.weights.linear(HEADS, HEADS), last)
    return made.net(f"{name}/first", Transpose((2, 0, 1)), mixed)


def _grouped(made: Parts, x: Value, name: str) -> Value:
    """All heads read the same keys and values, or keys are the values, or queries are a gate."""
    net, weights = made.net, made.weights
    q, k, v = _queries_keys_values(made, x, name)
    way = weights.one_of(("repeated", "keys are values", "queries are a gate"))
    if way == "repeated":
        k = net(f"{name}/k/repeated", Take(0, (0,) * HEADS), k)
        v = net(f"{name}/v/repeated", Take(0, (1,) * HEADS), v)
    mixed = attend(net, q, k, k if way == "keys are values" else v, name, scale=0.5)
    if way == "queries are a gate":
        mixed = net(f"{name}/opened", Multiply(), mixed, q)
    return net(f"{name}.out", weights.linear(HEADS * WIDTH, DIM), joined(net, mixed, name))


def _scrambled(made: Parts, x: Value, name: str) -> Value:
    """Heads are cut across tokens, so that a channel of a head is another one of the layer."""
    net, weights = made.net, made.weights
    factors = [
        net(f"{name}.{part}", weights.linear(DIM, HEADS * WIDTH), x) for part in ("q", "k", "v")
    ]
    cut = Reshape((HEADS, x.shape[0], WIDTH))
    across = weights.one_of(((0,), (1,), (2,), (0, 1, 2)))
    q, k, v = (
        net(f"{name}/{part}/cut", cut, each)
        if number in across
        else by_head(net, each, HEADS, f"{name}/{part}")
        for number, (part, each) in enumerate(zip("qkv", factors, strict=True))
    )
    mixed = attend(net, q, k, v, name, scale=0.5)
    return net(f"{name}.out", weights.linear(HEADS * WIDTH, DIM), joined(net, mixed, name))


def _both(made: Parts, x: Value, name: str) -> Value:
    """Scores mix values by their softmax and as they are."""
    net, weights = made.net, made.weights
    q, k, v = _queries_keys_values(made, x, name)
    mixed = attend(net, q, k, v, name, scale=0.5)
    scores = mixed.inputs[0].inputs[0]
    scores = weights.one_of((scores, scores.inputs[0]))
    few = net(f"{name}/few", Multiply(), scores, net(f"{name}/few/by", Constant(np.array(0.05))))
    mixed = net(f"{name}/both", Add(), mixed, net(f"{name}/linear", Product(), few, v))
    return net(f"{name}.out", weights.linear(HEADS * WIDTH, DIM), joined(net, mixed, name))


def _gated(made: Parts, x: Value, name: str) -> Value:
    """What is mixed is multiplied by a gate, and by itself without a softmax."""
    net, weights = made.net, made.weights
    q, k, v = _queries_keys_values(made, x, name)
    shares = net(f"{name}/scores", Product(transposed=True), q, k)
    shares = net(f"{name}/scaled", Multiply(), shares, net(f"{name}/by", Constant(np.array(0.1))))
    mixed = joined(net, net(f"{name}/mixed", Product(), shares, v), name)
    if weights.chance():
        opened = net(f"{name}.valve", weights.linear(DIM, HEADS * WIDTH), x)
        opened = net(f"{name}.valve/tanh", Activate(Activation.TANH), opened)
        mixed = net(f"{name}/opened", Multiply(), mixed, opened)
    return net(f"{name}.out", weights.linear(HEADS * WIDTH, DIM), mixed)


def _queries_keys_values(made: Parts, x: Value, name: str) -> list[Value]:
    parts = [(part, made.weights.linear(DIM, HEADS * WIDTH)) for part in "qkv"]
    values = [made.net(f"{name}.{part}", layer, x) for part, layer in parts]
    return [
        by_head(made.net, each, HEADS, f"{name}/{part}")
        for (part, _), each in zip(parts, values, strict=True)
    ]


MIXERS: dict[str, Callable[[Parts, Value, str], Value]] = {
    "plain": lambda made, x, name: made.attend(x, name),
    "layer norm": _normed(NormKind.LAYER),
    "RMS norm": _normed(NormKind.RMS),
    "cosine": _normed(NormKind.L2),
    "rotary": _rotary,
    "relative bias": _biased,
    "windows": _windowed,
    "talking heads": _talking,
    "grouped": _grouped,
    "gated": _gated,
    "scrambled": _scrambled,
    "both": _both,
}
