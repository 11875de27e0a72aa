"""What timm's weights do not tell: told by an architecture, or asked for, never guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN, TOLERANCE
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.network import Network

WEIGHTS = "model.safetensors"


def bare(case: str) -> Path:
    """The weights of a golden hub folder without its config.json."""
    return GOLDEN / f"timm_{case}" / WEIGHTS


def alone(case: str, tmp_path: Path) -> Path:
    shutil.copy(bare(case), tmp_path / WEIGHTS)
    return tmp_path / WEIGHTS


def assert_computes(network: Network, case: str) -> None:
    with np.load(GOLDEN / f"timm_{case}" / "expected.npz") as arrays:
        images, logits = arrays["images"], arrays["logits"]
    assert np.abs(forward(network, images) - logits).max() / np.ptp(logits) <= TOLERANCE


@pytest.mark.parametrize(
    ("case", "words", "told"),
    [
        ("rpn", "give --architecture", {"architecture": "vit_base_patch16_rpn_224"}),
        (
            "pe_spatial",
            "give --architecture",
            {"architecture": "vit_pe_spatial_tiny_patch16_512", "mean": (0.5,) * 3},
        ),
        ("clip_quickgelu", "give --activation gelu or quick_gelu", {"activation": "quick_gelu"}),
        ("siglip", "give --activation gelu or gelu_tanh", {"activation": "gelu_tanh"}),
        (
            "eva02_post_norm",
            "eva02_enormous_patch14_clip_224, eva_giant_patch14_clip_224 have such weights",
            {"architecture": "eva02_enormous_patch14_clip_224"},
        ),
        ("dinov3_folder", "give --image-size", {"image_size": (16, 16)}),
    ],
)
def test_what_the_weights_do_not_tell_is_asked_for(
    case: str, words: str, told: dict[str, Any], tmp_path: Path
) -> None:
    config = json.loads((GOLDEN / f"timm_{case}" / "config.json").read_text())["pretrained_cfg"]
    path = alone(case, tmp_path)
    with pytest.raises(ModelError, match=words):
        read_model(path, ImportOptions(heads=2))
    if "activation" in told:
        told = {**told, "activation": Activation(told["activation"])}
    statistics = {key: tuple(config[key]) for key in ("mean", "std")}
    network = read_model(path, ImportOptions(**{**told, **statistics, "heads": 2})).network
    assert_computes(network, case)


def test_an_unknown_architecture_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(ModelError, match=r"not a model of timm.*near are vit_base_patch16_rpn_224"):
        read_model(bare("rpn"), ImportOptions(architecture="vit_base_patch16_rpn"))


def test_an_architecture_that_cannot_be_read_is_refused_by_its_element() -> None:
    options = ImportOptions(architecture="vit_base_patch16_xp_224")
    with pytest.raises(ModelError, match="whose ParallelScalingBlock vitedge does not read"):
        read_model(bare("rpn"), options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blocks.0.attn.gate.weight", "has gated attention"),
        ("blocks.0.attn.lambda_q1", "has differential attention"),
        ("blocks.0.attn.rel_pos_h", "has decomposed relative positions"),
        ("blocks_token_only.0.gamma_1", "has class attention"),
        ("attn_pool.q_norm.weight", "has positions or norms in its attention pooling"),
    ],
)
def test_an_element_that_is_not_known_is_named(name: str, words: str, tmp_path: Path) -> None:
    arrays = load_file(bare("vit")) | {name: np.ones(2, np.float32)}
    save_file(arrays, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match=words):
        read_model(tmp_path / WEIGHTS, ImportOptions(heads=2))


def test_an_argument_that_no_weight_tells_is_refused(tmp_path: Path) -> None:
    alone("rpn", tmp_path)
    config = json.loads((GOLDEN / "timm_rpn" / "config.json").read_text())
    config["model_args"]["act_layer"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="gives its model 'act_layer'"):
        read_model(tmp_path)


def test_the_pooling_of_the_config_goes_before_that_of_the_architecture(tmp_path: Path) -> None:
    alone("vit", tmp_path)
    config = {"architecture": "vit_tiny_patch16_224", "global_pool": "avg", "num_classes": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = read_model(tmp_path, ImportOptions(heads=2)).network
    assert "pooled/mean" in {value.name for value in network.values}
    config["global_pool"] = "max"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="pools its tokens by 'max'"):
        read_model(tmp_path, ImportOptions(heads=2))


def test_rotary_positions_follow_the_image_size() -> None:
    options = ImportOptions(heads=2, image_size=(24, 16))
    network = read_model(bare("dinov3"), options).network
    assert network.image_shape == (24, 16, 3)
    assert forward(network, np.zeros((1, 24, 16, 3), np.uint8)).shape == (1, 5)


def test_a_relative_position_bias_fixes_the_image_size() -> None:
    with pytest.raises(ModelError, match="a relative position bias is for one image size"):
        read_model(bare("beit"), ImportOptions(heads=2, image_size=(24, 24)))


@pytest.mark.parametrize(
    ("case", "architecture", "match"),
    [
        ("vit", "vit_base_patch32_plus_256", None),
        ("vit", "vit_base_patch16_clip_quickgelu_224", "but like those of .*vit_"),
        ("vit", "vit_small_patch16_rope_mixed_224", "but like those of .*vit_"),
        ("dinov3", "vit_small_patch16_224", "but like those of .*dinov3"),
        # Weights of no registered model: a variant of one that has all but optional parts.
        ("qk_norm", "vit_base_patch16_224", None),
        ("qk_norm", "vit_base_patch16_rope_224", "lacks 'pos_embed'"),
        ("qk_norm", "eva02_base_patch14_224", "has 'blocks.0.attn.k_proj.weight'"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    case: str, architecture: str, match: str | None, tmp_path: Path
) -> None:
    # With exit 0, they were read with that architecture's rotary positions and activation.
    options = ImportOptions(architecture=architecture, heads=2, image_size=(16, 16))
    path = alone(case, tmp_path)
    if match is None:
        assert read_model(path, options).network.classes > 0
        return
    with pytest.raises(ModelError, match=match):
        read_model(path, options)
