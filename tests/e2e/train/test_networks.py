"""Training of networks that are no plain ViT: what a block is, is asked of the structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.e2e.train.test_runs import LABELS, QUICK, accuracy, halves
from tests.support.models import random_images, random_network
from vitedge.elements.patches import patches
from vitedge.images.preprocess import Preprocessing
from vitedge.in_keras.model import from_keras, to_keras
from vitedge.network.blocks import blocks, head_of, learnt_constants, parts_of, residual_sums
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Network, Value, rebuilt
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Linear,
    Mean,
    Multiply,
    Norm,
    Pixels,
    Product,
    Reshape,
    Softmax,
    Standardize,
    Take,
    Transpose,
)
from vitedge.train import Augmentation, TrainingRecipe, adapt, train
from vitedge.train.optimizer import groups

pytestmark = pytest.mark.slow

DIM, TOKENS, HEADS = 16, 4, 2
GREY = Preprocessing(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))


class Parts:
    """Layers with random weights."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def array(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def linear(self, inputs: int, outputs: int) -> Linear:
        return Linear(self.array(inputs, outputs, scale=inputs**-0.5), np.zeros(outputs, "f4"))

    def norm(self) -> Norm:
        return Norm(np.ones(DIM, np.float32), np.zeros(DIM, np.float32), 1e-6)


def by_head(net: Builder, x: Value, name: str) -> Value:
    cut = net(f"{name}/cut", Reshape((x.shape[0], HEADS, DIM // HEADS)), x)
    return net(f"{name}/heads", Transpose((1, 0, 2)), cut)


def turned(net: Builder, x: Value, tables: tuple[Value, Value], name: str) -> Value:
    """Rotary positions: halves of channels turn by an angle for each token."""
    half = x.shape[-1] // 2
    swapped = net(f"{name}/swap", Take(2, (*range(half, 2 * half), *range(half))), x)
    first = net(f"{name}/cos", Multiply(), x, tables[0])
    return net(f"{name}/turned", Add(), first, net(f"{name}/sin", Multiply(), swapped, tables[1]))


def attended(net: Builder, q: Value, k: Value, v: Value, name: str) -> Value:
    scores = net(f"{name}/scores", Product(transposed=True), q, k)
    by = net(f"{name}/by", Constant(np.asarray((DIM // HEADS) ** -0.5)))
    shares = net(f"{name}/shares", Softmax(), net(f"{name}/scaled", Multiply(), scores, by))
    mixed = net(f"{name}/mixed", Product(), shares, v)
    back = net(f"{name}/back", Transpose((1, 0, 2)), mixed)
    return net(f"{name}/joined", Reshape((q.shape[1], DIM)), back)


def gated(net: Builder, x: Value, parts: Parts, name: str) -> Value:
    gate = net(f"{name}.gate", parts.linear(DIM, 24), x)
    gate = net(f"{name}.silu", Activate(Activation.SILU), gate)
    hidden = net(f"{name}.gated", Multiply(), gate, net(f"{name}.up", parts.linear(DIM, 24), x))
    return net(f"{name}.down", parts.linear(24, DIM), hidden)


def embedded(net: Builder, layer: Linear, name: str) -> Value:
    pixels = net("in", Standardize((0.5,), (0.25,)), net("pixels", Pixels(8, 8, 1)))
    return net(name, layer, patches(net, pixels, (4, 4), "patches"))


def rotary_network(seed: int = 0) -> Network:
    """Two blocks with rotary positions and a gated MLP; a learned probe pools by attention."""
    parts, net = Parts(seed), Builder()
    x = embedded(net, parts.linear(16, DIM), "embed")
    angles = np.outer(np.arange(TOKENS), [1.0, 0.3, 0.1, 0.03])
    cos, sin = np.cos(angles), np.sin(angles)
    tables = (
        net("cos", Constant(np.concatenate([cos, cos], 1).astype(np.float32))),
        net("sin", Constant(np.concatenate([-sin, sin], 1).astype(np.float32))),
    )
    for name in ("layer0", "layer1"):
        read = net(f"{name}.before", parts.norm(), x)
        q, k, v = (
            by_head(net, net(f"{name}.{part}", parts.linear(DIM, DIM), read), f"{name}.{part}")
            for part in "qkv"
        )
        q, k = (turned(net, each, tables, f"{name}.{part}") for each, part in ((q, "q"), (k, "k")))
        out = net(f"{name}.out", parts.linear(DIM, DIM), attended(net, q, k, v, name))
        # The branch stands first: which of the two is the stream, the network knows.
        x = net(f"{name}.sum", Add(), out, x)
        read = net(f"{name}.between", parts.norm(), x)
        x = net(f"{name}.end", Add(), x, gated(net, read, parts, name))
    x = net("after", parts.norm(), x)
    probe = net("probe", Constant(parts.array(1, DIM, scale=0.1)))
    q, k, v = (
        by_head(net, net(f"pool.{part}", parts.linear(DIM, DIM), each), f"pool.{part}")
        for part, each in (("q", probe), ("k", x), ("v", x))
    )
    vector = net("pool.vector", Reshape((DIM,)), attended(net, q, k, v, "pool"))
    return net.network({"logits": net("answers", parts.linear(DIM, 3), vector)}, GREY, LABELS)


def streamless_network(seed: int = 0) -> Network:
    """No residual sums: layers on patches, non-linearities, a mean."""
    parts, net = Parts(seed), Builder()
    x = net("relu", Activate(Activation.RELU), embedded(net, parts.linear(16, DIM), "first"))
    x = net("second", parts.linear(DIM, DIM), x)
    x = net("where", Concatenate(1), x, net("places", Constant(parts.array(TOKENS, 4))))
    x = net("gelu", Activate(Activation.GELU), net("third", parts.linear(DIM + 4, DIM), x))
    logits = net("last", parts.linear(DIM, 3), net("mean", Mean(0), x))
    return net.network({"logits": logits}, GREY, LABELS)


def test_blocks_branches_and_head_are_found_by_structure():
    network = rotary_network()
    found = blocks(network)
    assert [(each.start.name, each.end.name) for each in found] == [
        ("embed", "layer0.end"),
        ("layer0.end", "layer1.end"),
    ]
    assert [each.branch.name for each in residual_sums(network)] == [
        *("layer0.out", "layer0.down", "layer1.out", "layer1.down"),
    ]
    assert [each.name for each in head_of(network, found)] == ["answers"]
    assert {each.name for each in learnt_constants(network)} == {"probe"}
    # The tables are made for all blocks, and stand with the first that reads them.
    first, block0, block1, rest = ({each.name for each in part} for part in parts_of(network))
    assert "embed" in first
    assert {"layer0.q", "cos", "layer0.gate"} <= block0
    assert {"layer1.q", "layer1.down"} <= block1
    assert {"after", "probe", "pool.k", "answers"} <= rest
    assert len(first) + len(block0) + len(block1) + len(rest) == len(network.values)


def test_a_network_without_a_stream_is_one_block():
    network = streamless_network()
    (only,) = blocks(network)
    assert (only.end.name, only.sums) == ("mean", ())
    model = to_keras(network)
    found = [one.name for group in groups(model, TrainingRecipe()) for one in group.variables]
    assert sorted(found) == sorted(one.name for one in model.trainable_variables)


def test_a_sum_within_a_branch_is_none_of_the_stream():
    def doubled(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value.name != "blocks.0.fc2":
            return None
        more = Value("more", Activate(Activation.RELU), inputs)
        return Value(value.name, value.operator, (Value("inner", Add(), (*inputs, more)),))

    network = rebuilt(random_network(depth=1), doubled)
    assert "inner" in {each.name for each in network.values}
    sums = [each.value.name for each in residual_sums(network)]
    assert sums == ["blocks.0/attended", "blocks.0/out"]


RECIPES = {
    "everything on": replace(
        QUICK, epochs=15, stochastic_depth=0.1, average=0.9, layer_decay=0.7,
        augmentation=Augmentation(shift=0.05),
    ),
    "the last block": replace(QUICK, epochs=15, trainable_blocks=1),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("make", [rotary_network, streamless_network])
def test_networks_of_other_elements_learn(make, recipe):
    start = make()
    result = train(start, halves(), recipe, held_out=halves(30, seed=1))
    assert result.held_out_accuracy > 0.9  # chance would be a third
    assert accuracy(result.network, halves(30, seed=1)) == result.held_out_accuracy
    before, after = dict(start.named_arrays()), dict(result.network.named_arrays())
    still = {name for name in before if (before[name] == after[name]).all()}
    if make is rotary_network:
        assert {"cos", "sin"} <= still
        assert ("layer0.q.weight" in still) is (recipe.trainable_blocks == 1)
        assert "probe" not in still


def test_the_head_alone_learns_on_kept_outputs():
    start = rotary_network()
    result = train(start, halves(), replace(QUICK, trainable_blocks=0))
    before, after = dict(start.named_arrays()), dict(result.network.named_arrays())
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"answers.weight", "answers.bias"}


def test_it_is_adapted_and_saved():
    network = adapt(rotary_network(), ("a", "b"))
    images = random_images(network, 3)
    model = to_keras(network)
    assert forward(from_keras(model), images).shape == (3, 2)
    np.testing.assert_allclose(model(images), forward(network, images), rtol=1e-4, atol=1e-4)
