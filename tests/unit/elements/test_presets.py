"""The published sizes, and fresh weights."""

from __future__ import annotations

import numpy as np
import pytest

from vitedge.elements.presets import PRESETS, initialize, preset
from vitedge.errors import UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.network.network import Network


def fresh(name: str, seed: int = 0, **changes: int) -> Network:
    config = preset(name, classes=1000, **changes)
    return initialize(config, Preprocessing(size=config.image_size), seed=seed)


def arrays(network: Network) -> dict[str, np.ndarray]:
    return dict(network.named_arrays())


# Published with the checkpoints of these names, for 1,000 classes.
PARAMETERS = {"tiny": 5_717_416, "small": 22_050_664, "deit-tiny": 5_717_416}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_its_published_number_of_parameters(name):
    network = fresh(name)
    # Ours has the positions of the prefix tokens added to them.
    assert network.parameters + arrays(network)["prefix"].size == PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_config(name):
    config = preset(name, classes=10)
    assert config.heads * config.head_dim == config.dim
    assert config.prefix_tokens == (2 if name.endswith("distilled") else 1)


def test_single_sizes_replace_the_presets():
    config = preset("tiny", classes=10, image_size=32, patch_size=4, depth=3, dim=64, heads=4)
    assert config.image_size == (32, 32)
    assert (config.dim, config.depth, config.head_dim, config.mlp_dim) == (64, 3, 16, 256)
    assert config.attention_scale == 0.25


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("enormous", {}, "unknown preset 'enormous'; known: tiny, small"),
        ("tiny", {"image_size": 30}, "not a multiple of patch size"),
        ("tiny", {"heads": 5}, "192 cannot be split into 5 heads"),
        ("tiny", {"depth": -1}, "depth must be at least 1"),
    ],
    ids=["name", "image size", "heads", "depth"],
)
def test_sizes_that_contradict_each_other_are_refused(name, changes, message):
    with pytest.raises(UsageError, match=message):
        preset(name, classes=10, **changes)


SMALL = {"image_size": 32, "dim": 96, "heads": 3, "depth": 2}


class TestFreshWeights:
    def test_follow_their_seed(self):
        first, again, other = (fresh("tiny", seed, **SMALL) for seed in (1, 1, 2))
        heads = [arrays(each)["head.weight"] for each in (first, again, other)]
        np.testing.assert_array_equal(heads[0], heads[1])
        assert (heads[0] != heads[2]).any()

    def test_have_the_papers_spread(self):
        found = arrays(fresh("tiny", **SMALL))
        # A normal distribution cut at two deviations keeps 0.88 of its spread.
        assert found["head.weight"].std() == pytest.approx(0.88 * 0.02, rel=0.05)
        assert np.abs(found["positions"]).max() <= 0.04
        # Glorot: variance 2 / (inputs + outputs).
        assert found["blocks.0.q.weight"].std() == pytest.approx((2 / 192) ** 0.5, rel=0.05)

    def test_have_no_bias(self):
        for name, array in fresh("tiny", **SMALL).named_arrays():
            if name.endswith(("bias", "beta")):
                assert not array.any(), name
