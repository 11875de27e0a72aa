"""Outputs by name: the same whatever rewrites, precision and format did to the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vitedge
from tests.support.models import random_images, random_network
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.errors import UsageError
from vitedge.network.blocks import blocks
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
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
    from dataclasses import replace

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
