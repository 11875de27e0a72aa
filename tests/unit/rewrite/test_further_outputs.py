"""Outputs by name: the same whatever rewrites, precision and format did to the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitedge
from tests.support.models import random_images, random_network
from tests.support.networks import DIM, Random
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.errors import UsageError
from vitedge.network.blocks import blocks
from vitedge.network.evaluate import evaluate
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, Value
from vitedge.network.operators import Activate, Add, Mean, Reshape
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.further_outputs import with_outputs
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

NAMES = ("embedding", "tokens", "map", "block.0", "block.1")
NETWORKS = {
    "class token": random_network(),
    "mean of patches": random_network(pooling=Pooling.MEAN, prefix_tokens=0, pooled_norm=True),
    "registers": random_network(prefix_tokens=5),
    "norms behind": random_network(norm_position=NormPosition.POST),
}


def values_of(network: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the outputs are, read from the network itself."""
    parts = blocks(network)
    tokens = next((each for each in network.values if each.name == "norm"), parts[-1].end)
    wanted = {"tokens": tokens, "block.0": parts[0].end, "block.1": parts[1].end}
    wanted["embedding"] = network.logits.inputs[0]
    found = evaluate(replace(network, outputs=wanted, labels=()), images)
    found["map"] = found["tokens"][:, -16:].reshape(len(images), 4, 4, -1)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_the_networks_own_values(name: str) -> None:
    network = NETWORKS[name]
    images = random_images(network, 2)
    expected = values_of(network, images)
    wide = with_outputs(network, NAMES)
    assert list(wide.outputs) == ["logits", *NAMES]
    rewritten, _ = apply_rewrites(wide)
    for made in (wide, rewritten):
        found = evaluate(made, images)
        for each in NAMES:
            # Float32 sums of a few dozen terms, through two blocks.
            np.testing.assert_allclose(found[each], expected[each], atol=2e-5 * np.ptp(found[each]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_the_names_changes_no_value(name: str) -> None:
    network = NETWORKS[name]
    images = random_images(network, 2)
    found, other = (
        evaluate(with_outputs(network, names), images) for names in (NAMES, NAMES[::-1])
    )
    for each in NAMES:
        np.testing.assert_array_equal(found[each], other[each])


class Trunk(Random):
    """Blocks of attention alone, and what stands behind them."""

    def attended(self, x: Value, name: str, read: Value | None = None) -> Value:
        read = self.norm(f"{name}.norm", x) if read is None else read
        q, k, v = self.heads(read, name)
        mixed = self.joined(self.mixed(self.scores(q, k, name), v, name), name)
        return self.net(f"{name}/sum", Add(), x, self.linear(f"{name}.out", mixed, DIM))

    def pooled(self, tokens: Value) -> Value:
        """As SigLIP's: one learnt query, and an MLP beside what it pooled."""
        q = self.by_head(self.linear("pool.q", self.constant("probe", 1, DIM), DIM), "pool/q")
        k, v = (
            self.by_head(self.linear(f"pool.{each}", tokens, DIM), f"pool/{each}") for each in "kv"
        )
        x = self.joined(self.mixed(self.scores(q, k, "pool"), v, "pool"), "pool")
        x = self.linear("pool.out", x, DIM)
        inner = self.linear("pool.fc1", self.norm("pool.norm", x), 2 * DIM)
        inner = self.net("pool/gelu", Activate(Activation.GELU), inner)
        x = self.net("pool/sum", Add(), x, self.linear("pool.fc2", inner, DIM))
        return self.net("pool/vector", Reshape((DIM,)), x)

    def merged(self, x: Value) -> Value:
        """As Swin's between stages: neighbours side by side, a norm, a layer."""
        count, width = x.shape
        x = self.net("merge/pairs", Reshape((count // 2, 2 * width)), x)
        return self.linear("merge", self.norm("merge.norm", x), DIM)


def test_tokens_are_those_before_attention_pools_them() -> None:
    made = Trunk(41)
    x = made.attended(made.attended(made.tokens(), "blocks.0"), "blocks.1")
    network = made.network(embedding=made.pooled(made.norm("norm", x)))
    wide = with_outputs(network, ("block.1", "tokens"))
    images = random_images(network, 2)
    values = {"block.1": x, "tokens": next(v for v in network.values if v.name == "norm")}
    expected = evaluate(replace(network, outputs=values), images)
    found = evaluate(wide, images)
    for name in values:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    with pytest.raises(UsageError, match="has 2 blocks"):
        with_outputs(network, ("block.2",))


def test_a_block_ends_before_patches_are_merged() -> None:
    made = Trunk(42)
    first = made.attended(made.tokens(), "blocks.0")
    x = made.norm("norm", made.attended(made.merged(first), "blocks.1"))
    network = made.network(logits=made.linear("head", made.net("pooled", Mean(0), x), 3))
    images = random_images(network, 2)
    found = evaluate(with_outputs(network, ("block.0",)), images)["block.0"]
    expected = evaluate(replace(network, outputs={"logits": first}, labels=()), images)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_second_reader_of_the_last_block_does_not_hide_its_norm() -> None:
    made = Trunk(43)
    last = made.attended(made.tokens(), "blocks.0")
    x = made.norm("norm", last)
    logits = made.linear("head", made.net("pooled", Mean(0), x), 3)
    network = made.network(logits=logits, beside=made.linear("decoder", last, 2))
    images = random_images(network, 2)
    found = evaluate(with_outputs(network, ("tokens",)), images)["tokens"]
    expected = evaluate(replace(network, outputs={"logits": x}, labels=()), images)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_further_outputs_keep_no_rewrite_away() -> None:
    for name, network in NETWORKS.items():
        alone = apply_rewrites(network)[1]
        wide = apply_rewrites(with_outputs(network, NAMES))[1]
        # All tokens are given, so the queries of the others are needed.
        assert set(alone) - set(wide) <= {"pooled-queries-only"}, name


@pytest.mark.thorough
@pytest.mark.parametrize("target", all_formats(), ids=str)
def test_features_and_an_embedding_are_one_vector(target: Format, tmp_path: Path) -> None:
    network = NETWORKS["class token"]
    source = tmp_path / "model.keras"
    write_keras(network, source)
    options = ConvertOptions(
        (target,), (Precision.FP32,), tmp_path, features=True, also=("embedding",)
    )
    (written,) = convert(source, options)
    images = list(random_images(network, 2))
    with vitedge.load(written.path) as model:
        assert model.outputs == ("logits", "features", "embedding")
        features, embedding = (model.output(name, images) for name in model.outputs[1:])
    np.testing.assert_array_equal(features, embedding)
    expected = values_of(network, random_images(network, 2))["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=str)
@pytest.mark.parametrize("target", all_formats(), ids=str)
def test_every_format_gives_outputs_by_name(
    target: Format, precision: Precision, tmp_path: Path
) -> None:
    network = NETWORKS["class token"]
    source = tmp_path / "model.keras"
    write_keras(network, source)
    options = ConvertOptions((target,), (precision,), tmp_path, also=NAMES)
    (written,) = convert(source, options)
    images = random_images(network, 3)
    expected = values_of(network, images)
    with vitedge.load(written.path) as model:
        assert model.outputs == ("logits", *NAMES)
        for name in NAMES:
            found = model.output(name, list(images))
            tolerance = 1e-4 if precision is Precision.FP32 else 0.3
            assert found.shape == expected[name].shape
            assert np.abs(found - expected[name]).max() <= tolerance * np.ptp(expected[name])
        np.testing.assert_array_equal(model.embed(list(images)), model.output(NAMES[0], images))
        with pytest.raises(UsageError, match=r"no output 'block\.9', but logits, embedding"):
            model.output("block.9", list(images))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("depth",), "'depth' is not an output of a network: choose among embedding, tokens, map"),
        (("block.2",), "has 2 blocks, from block.0 on, and no block.2"),
        (("tokens", "logits"), "'logits' is not an output"),
    ],
)
def test_outputs_that_are_not_there_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_outputs(NETWORKS["class token"], names)
