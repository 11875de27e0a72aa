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
from tests.support.plain import plain
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


def test_keys_of_groups_of_heads_are_named(tmp_path: Path) -> None:
    # It was a Reshape that did not fit (Sapiens 2).
    folder = shutil.copytree(GOLDEN / "timm_eva02_clip", tmp_path / "grouped")
    arrays = load_file(folder / WEIGHTS)
    arrays |= {
        name: array[:8]
        for name, array in arrays.items()
        if name.startswith(("blocks.1.attn.k_proj", "blocks.1.attn.v_"))
    }
    save_file(arrays, folder / WEIGHTS)
    with pytest.raises(ModelError, match="has keys of groups of heads"):
        read_model(folder / WEIGHTS, ImportOptions(heads=2))


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


def made_with(
    tmp_path: Path,
    arguments: dict[str, Any],
    *,
    dropped: tuple[str, ...] = (),
    added: dict[str, np.ndarray] | None = None,
    **config: Any,
) -> Path:
    """The golden ViT with other weights, and a config.json that says what it was made with."""
    arrays = {name: each for name, each in load_file(bare("vit")).items() if name not in dropped}
    save_file(arrays | (added or {}), tmp_path / WEIGHTS)
    sizes = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    told = {"architecture": "vit_tiny_patch16_224", "model_args": sizes | arguments, **config}
    (tmp_path / "config.json").write_text(json.dumps(told))
    return tmp_path


def rows_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, count, 16)).astype(np.float32)


@pytest.mark.parametrize("told_by", ["img_size", "input_size"])
def test_the_config_tells_the_grid_of_a_rectangular_model(told_by: str, tmp_path: Path) -> None:
    # 16 positions are 3 x 5 patches and a class token; they were read as 4 x 4 patches.
    positions = {"pos_embed": rows_of(16)}
    arguments = {"img_size": [12, 20]} if told_by == "img_size" else {}
    cfg = {"input_size": [3, 12, 20]} if told_by == "input_size" else {}
    path = made_with(tmp_path, arguments, added=positions, pretrained_cfg=cfg)
    network = read_model(path, ImportOptions(resize=0)).network
    assert network.image_shape == (12, 20, 3)
    np.testing.assert_array_equal(plain(network).arrays["positions"], positions["pos_embed"][0, 1:])


def test_the_config_tells_whether_registers_have_positions(tmp_path: Path) -> None:
    # 9 positions: 2 x 2 patches, a class token and registers, or 3 x 3 patches alone.
    added = {"pos_embed": rows_of(9), "reg_token": rows_of(4)}
    path = made_with(tmp_path, {"img_size": 8, "reg_tokens": 4}, added=added)
    assert read_model(path).network.image_shape == (8, 8, 3)
    path = made_with(tmp_path, {"no_embed_class": True, "reg_tokens": 4}, added=added)
    assert read_model(path).network.image_shape == (12, 12, 3)


def test_positions_of_two_squares_are_asked_about(tmp_path: Path) -> None:
    arrays = load_file(bare("vit")) | {"pos_embed": rows_of(9), "reg_token": rows_of(4)}
    save_file(arrays, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="give --image-size of its own images, 8x8 or 12x12"):
        read_model(tmp_path / WEIGHTS, ImportOptions(heads=2))
    options = ImportOptions(heads=2, image_size=(12, 12))
    assert read_model(tmp_path / WEIGHTS, options).network.image_shape == (12, 12, 3)


def test_an_image_size_that_the_positions_contradict_is_refused(tmp_path: Path) -> None:
    path = made_with(tmp_path, {"img_size": [12, 20]})
    with pytest.raises(ModelError, match=r"\[12, 20\], which has 3 x 5 .* have 17 positions"):
        read_model(path)


def test_the_config_tells_the_grid_of_relative_positions(tmp_path: Path) -> None:
    # 2 x 13 patches have 3 * 25 distances, and three more for the class token.
    arguments = {"img_size": [8, 52], "num_heads": 2, "embed_dim": 16}
    config = {"architecture": "beit_base_patch16_224", "model_args": arguments}
    arrays = load_file(bare("beit"))
    for name in (name for name in arrays if name.endswith("relative_position_bias_table")):
        arrays[name] = np.zeros((3 * 25 + 3, 2), np.float32)
    save_file(arrays, tmp_path / WEIGHTS)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_model(tmp_path, ImportOptions(resize=0)).network.image_shape == (8, 52, 3)


def widened(tmp_path: Path, dim: int, **config: Any) -> Path:
    """The golden ViT with random weights of another width."""
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.standard_normal([dim // 16 * n if n % 16 == 0 else n for n in each.shape])
        for name, each in load_file(bare("vit")).items()
    }
    save_file({k: v.astype(np.float32) for k, v in arrays.items()}, tmp_path / WEIGHTS)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path
    return tmp_path / WEIGHTS


def heads_in(network: Network) -> int:
    return plain(network).heads


def test_another_width_keeps_the_heads_of_the_architecture(tmp_path: Path) -> None:
    # timm's create_model changes no argument but those that it is given.
    arguments = {"embed_dim": 384, "patch_size": 4, "depth": 2}
    path = widened(tmp_path, 384, architecture="vit_tiny_patch16_224", model_args=arguments)
    assert heads_in(read_model(path).network) == 3


def test_another_width_without_arguments_asks_for_the_heads(tmp_path: Path) -> None:
    path = widened(tmp_path, 384, architecture="vit_tiny_patch16_224")
    with pytest.raises(ModelError, match="attention of width 384 has no usual one: give --heads"):
        read_model(path)
    assert heads_in(read_model(path, ImportOptions(heads=3)).network) == 3


@pytest.mark.parametrize(("dim", "heads"), [(192, 3), (64, 2), (128, None)])
def test_heads_without_an_architecture_are_those_of_registered_widths(
    dim: int, heads: int | None, tmp_path: Path
) -> None:
    path = widened(tmp_path, dim)
    if heads is not None:
        assert heads_in(read_model(path).network) == heads
        return
    with pytest.raises(ModelError, match=f"width {dim} has no usual one: give --heads"):
        read_model(path)
    assert heads_in(read_model(path, ImportOptions(heads=4)).network) == 4


@pytest.mark.parametrize(
    ("beside", "arguments", "node"),
    [
        ({}, {"global_pool": "avg"}, "pooled/mean"),
        ({"global_pool": "token"}, {"global_pool": "avg"}, "pooled/mean"),
        ({"pretrained_cfg": {"global_pool": "avg"}}, {"global_pool": None}, "pooled/mean"),
    ],
)
def test_the_pooling_of_the_arguments_goes_first(
    beside: dict[str, Any], arguments: dict[str, Any], node: str, tmp_path: Path
) -> None:
    network = read_model(made_with(tmp_path, arguments, **beside)).network
    assert node in {value.name for value in network.values}


def test_a_model_that_gives_all_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives all its tokens"):
        read_model(made_with(tmp_path, {"global_pool": ""}))


@pytest.mark.parametrize(
    ("told", "resize"),
    [
        ({"crop_pct": 0.8}, 20),
        ({"crop_pct": 1.0}, 16),
        ({}, 18),
        ({"crop_pct": None, "interpolation": None, "mean": None}, 18),
        ({"crop_mode": "squash", "crop_pct": 1.0}, None),
        ({"crop_mode": "squash", "crop_pct": 0.8}, (20, 20)),
    ],
)
def test_the_crop_is_that_of_the_config(
    told: dict[str, Any], resize: int | tuple[int, int] | None, tmp_path: Path
) -> None:
    network = read_model(made_with(tmp_path, {}, pretrained_cfg=told)).network
    assert network.preprocessing.resize == resize


@pytest.mark.parametrize(
    ("told", "size", "match"),
    [
        ({"crop_mode": "border", "crop_pct": 1.0}, [16, 16], "with borders into 16x16"),
        ({"crop_pct": 0.8}, [8, 32], "until they cover 10x40 and crops 8x32"),
    ],
)
def test_a_crop_that_vitedge_does_not_do_is_asked_about(
    told: dict[str, Any], size: list[int], match: str, tmp_path: Path
) -> None:
    # Images were cropped from the middle, or stretched, without a word.
    path = made_with(tmp_path, {"img_size": size}, pretrained_cfg=told)
    with pytest.raises(ModelError, match=f"{match}.* give --resize 0"):
        read_model(path)
    assert read_model(path, ImportOptions(resize=0)).network.preprocessing.resize is None
    assert read_model(path, ImportOptions(resize=48)).network.preprocessing.resize == 48


@pytest.mark.parametrize(
    ("told", "match", "remedy"),
    [
        ({"interpolation": "random"}, "interpolation 'random'", {"interpolation": "bilinear"}),
        ({"crop_pct": 1.2}, "crop_pct 1.2", {"resize": 0}),
    ],
)
def test_a_value_that_vitedge_cannot_do_is_named_with_its_remedy(
    told: dict[str, Any], match: str, remedy: dict[str, Any], tmp_path: Path
) -> None:
    path = made_with(tmp_path, {}, pretrained_cfg=told)
    with pytest.raises(
        ModelError, match=rf"config\.json of the model says {match}.*--{next(iter(remedy))}"
    ):
        read_model(path)
    read_model(path, ImportOptions(**remedy))


def test_parts_of_a_config_may_be_null(tmp_path: Path) -> None:
    # transformers writes null for arguments that nobody gave; they were "not an object".
    path = made_with(tmp_path, {}, pretrained_cfg=None)
    assert read_model(path).network.preprocessing.resize == 18
    told = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(told | {"model_args": None}))
    with pytest.raises(ModelError, match="number of heads"):
        read_model(path)


def test_a_damaged_config_is_refused_and_not_left_out(tmp_path: Path) -> None:
    # The heads that it names were those of the registered model, with exit 0.
    path = made_with(tmp_path, {"num_heads": 4})
    config = path / "config.json"
    config.write_text(config.read_text()[:-5])
    with pytest.raises(ModelError, match=r"config\.json' is not readable JSON"):
        read_model(path)
    config.write_text(json.dumps({"pretrained_cfg": [1]}))
    with pytest.raises(ModelError, match=r"config\.json' is malformed: 'pretrained_cfg'"):
        read_model(path)


@pytest.mark.parametrize(
    ("arguments", "dropped"),
    [({"pos_embed": "none"}, ("pos_embed",)), ({"proj_bias": False}, ("blocks.0.attn.proj.bias",))],
)
def test_an_unknown_argument_is_named_and_not_the_weights_that_it_takes_away(
    arguments: dict[str, Any], dropped: tuple[str, ...], tmp_path: Path
) -> None:
    path = made_with(tmp_path, arguments, dropped=dropped)
    with pytest.raises(
        ModelError, match=rf"gives its model '{next(iter(arguments))}'.*export the model"
    ):
        read_model(path)


def test_tokens_that_are_not_pooled_are_refused(tmp_path: Path) -> None:
    path = made_with(tmp_path, {}, dropped=("head.weight", "head.bias"), do_pooling=False)
    with pytest.raises(ModelError, match=r"gives all its tokens.*'do_pooling'"):
        read_model(path)


def norm_named(name: str) -> dict[str, np.ndarray]:
    arrays = load_file(bare("vit"))
    return {f"{name}.{part}": arrays[f"norm.{part}"] for part in ("weight", "bias")}


NORM = ("norm.weight", "norm.bias")
AVERAGED: dict[str, Any] = {"dropped": NORM, "added": norm_named("fc_norm")}


@pytest.mark.parametrize(
    ("arguments", "files", "node"),
    [
        ({"global_pool": "avg"}, AVERAGED, "pooled/mean"),
        ({}, {**AVERAGED, "global_pool": "avg"}, "pooled/mean"),
        ({"fc_norm": True}, AVERAGED, "pooled/class"),
        (
            {"pre_norm": True},
            {"dropped": ("patch_embed.proj.bias",), "added": norm_named("norm_pre")},
            "pooled/class",
        ),
        (
            {"class_token": False, "reg_tokens": 4, "global_pool": "avg"},
            {
                "dropped": (*NORM, "cls_token"),
                "added": {
                    **norm_named("fc_norm"),
                    "reg_token": np.ones((1, 4, 16), np.float32),
                    "pos_embed": np.ones((1, 20, 16), np.float32),
                },
            },
            "pooled/mean",
        ),
    ],
    ids=["avg", "avg_beside", "fc_norm", "pre_norm", "registers"],
)
def test_arguments_tell_weights_that_are_like_those_of_another_architecture(
    arguments: dict[str, Any], files: dict[str, Any], node: str, tmp_path: Path
) -> None:
    # They were refused, as the weights of eva_large_patch14_196 for one.
    network = read_model(made_with(tmp_path, {"img_size": 16, **arguments}, **files)).network
    assert node in {value.name for value in network.values}


def test_weights_that_no_argument_tells_are_still_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="but like those of eva_large_patch14_196"):
        read_model(made_with(tmp_path, {"global_pool": "token"}, **AVERAGED))
