"""What a Hugging Face folder says, file by file, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN
from tests.support.plain import plain
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError, SizeError
from vitedge.files.limits import VARIABLE
from vitedge.images.interpolation import Interpolation
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.processor import read_processor
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.operators import Activate
from vitedge.network.tasks import Task

VIT = GOLDEN / "hugging_face_vit"


def edited(tmp_path: Path, file: str, case: str = "hugging_face_vit", **changes: Any) -> Path:
    """A copy of a golden folder with some values of a JSON file changed."""
    folder = tmp_path / case
    shutil.copytree(GOLDEN / case, folder)
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(values | changes))
    return folder


@pytest.mark.parametrize(
    ("case", "prefix_tokens", "pooling"),
    [
        ("vit", 1, Pooling.CLASS),
        ("deit", 2, Pooling.CLASS),
        ("deit_teacher", 2, Pooling.DISTILLED),
        ("dinov2", 1, Pooling.CLASS_AND_MEAN),
        ("dinov2_registers", 5, Pooling.CLASS_AND_MEAN),
    ],
)
def test_tokens_and_pooling_are_those_of_the_class(
    case: str, prefix_tokens: int, pooling: Pooling
) -> None:
    config = plain(read_model(GOLDEN / f"hugging_face_{case}").network)
    assert (config.prefix_tokens, config.pooling) == (prefix_tokens, pooling)


def test_a_file_of_the_folder_stands_for_the_folder() -> None:
    assert read_model(VIT / "model.safetensors").path == "by name: hugging-face"


def test_an_activation_is_read_or_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", hidden_act="quick_gelu")
    assert plain(read_model(folder).network).activation is Activation.QUICK_GELU
    folder = edited(tmp_path / "other", "config.json", hidden_act="selu")
    with pytest.raises(ModelError, match="the activation 'selu' is not one that vitedge has"):
        read_model(folder)


@pytest.mark.parametrize(
    ("case", "width"),
    [("vit_model", 16), ("dinov2_model", 16), ("dinov3", 16), ("clip", 8), ("siglip", 16)],
)
def test_a_model_without_a_classifier_gives_an_embedding(case: str, width: int) -> None:
    network = read_model(GOLDEN / f"hugging_face_{case}").network
    assert network.task is Task.EMBEDDING
    assert {name: each.shape for name, each in network.outputs.items()} == {"embedding": (width,)}


def test_a_processor_that_is_not_usual_has_to_lie_there(tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", "hugging_face_msn")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"lies no preprocessor_config\.json, which is needed"):
        read_model(folder)


def test_the_processor_of_a_model_of_images_and_text_may_lie_in_another_file(
    tmp_path: Path,
) -> None:
    folder = edited(tmp_path, "config.json", "hugging_face_siglip")
    old = folder / "preprocessor_config.json"
    values = json.loads(old.read_text()) | {"image_mean": [0.25] * 3}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    old.unlink()
    assert read_model(folder).network.preprocessing.mean == (0.25,) * 3


def test_parts_of_a_config_that_are_left_out_are_those_of_the_class(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "hugging_face_siglip" / "config.json").read_text())
    vision = {**config["vision_config"], "hidden_act": "gelu_pytorch_tanh"}
    del vision["hidden_act"], vision["num_channels"]
    folder = edited(tmp_path, "config.json", "hugging_face_siglip", vision_config=vision)
    kinds = {
        value.operator.kind
        for value in read_model(folder).network.values
        if isinstance(value.operator, Activate)
    }
    assert kinds == {Activation.GELU_TANH}


def test_siglip_2_reads_squares_where_its_processor_keeps_the_shape(tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", "hugging_face_siglip2_vision")
    values = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 4}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    preprocessing = read_model(folder).network.preprocessing
    assert (preprocessing.size, preprocessing.resize) == ((16, 16), None)


def test_rotary_positions_are_of_the_size_that_is_wanted() -> None:
    folder = GOLDEN / "hugging_face_dinov3"
    network = read_model(folder, ImportOptions(image_size=(24, 16))).network
    assert network.image_shape == (24, 16, 3)


def test_a_relative_position_bias_fixes_the_image_size() -> None:
    with pytest.raises(ModelError, match="position bias is for one image size"):
        read_model(GOLDEN / "hugging_face_beit", ImportOptions(image_size=(24, 24)))


@pytest.mark.parametrize("case", ["beit", "beit_shared", "data2vec"])
def test_a_relative_position_bias_of_no_square_is_refused(case: str, tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", f"hugging_face_{case}", image_size=[8, 24])
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor["size"] = {"height": 8, "width": 24}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(ModelError, match=r"2 x 6 patches are not square.*export the model"):
        read_model(folder)


def test_another_depth_than_the_weights_have_is_an_error(tmp_path: Path) -> None:
    folder = edited(tmp_path / "more", "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"lacks the weights 'vit\.encoder\.layer\.2"):
        read_model(folder)
    folder = edited(tmp_path / "fewer", "config.json", num_hidden_layers=1)
    with pytest.raises(ModelError, match="no place in a ViT"):
        read_model(folder)


def test_a_processor_of_another_size_is_an_error_where_the_model_would_refuse(
    tmp_path: Path,
) -> None:
    folder = edited(tmp_path, "preprocessor_config.json", size={"height": 20, "width": 20})
    with pytest.raises(ModelError, match=r"20x20 pixels.*takes 16x16: .*--image-size"):
        read_model(folder)


def test_heads_that_contradict_the_config_are_an_error() -> None:
    with pytest.raises(ModelError, match="has 2 heads, not 4"):
        read_model(VIT, ImportOptions(heads=4))


@pytest.mark.parametrize("holds", ["holds", "does not hold"])
def test_a_shard_of_another_model_is_an_error(holds: str, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(GOLDEN / "hugging_face_sharded", folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name, shard = next(iter(index["weight_map"].items()))
    if holds == "holds":
        del index["weight_map"][name]
    else:
        others = set(index["weight_map"].values()) - {shard}
        index["weight_map"]["z" + name] = others.pop()
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=rf"{holds} the weights 'z?{name}', unlike its index"):
        read_model(folder)


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(GOLDEN / "hugging_face_sharded", folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[0].unlink()
    with pytest.raises(ModelError, match="truncated or not a safetensors file"):
        read_model(folder)


def test_an_index_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    index = json.loads((GOLDEN / "hugging_face_sharded/model.safetensors.index.json").read_text())
    places = dict.fromkeys(index["weight_map"], "../elsewhere.safetensors")
    folder = edited(
        tmp_path, "model.safetensors.index.json", "hugging_face_sharded", weight_map=places
    )
    with pytest.raises(ModelError, match="a shard outside its folder"):
        read_model(folder)


@dataclass(frozen=True)
class ProcessorCase:
    name: str
    values: dict[str, Any]
    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    mean: float = 0.5
    std: float = 0.25


BASE = {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
CROP = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
PROCESSORS = [
    ProcessorCase("a number", {"size": 224}, (224, 224), None),
    ProcessorCase("a rectangle", {"size": {"height": 192, "width": 256}}, (192, 256), None),
    ProcessorCase("shorter side", {"size": {"shortest_edge": 256}, **CROP}, (224, 224), 256),
    ProcessorCase(
        "number and crop", {"size": 256, **CROP, "crop_size": 224}, (224, 224), (256, 256)
    ),
    ProcessorCase(
        "stretch and crop", {"size": {"height": 240, "width": 256}, **CROP}, (224, 224), (240, 256)
    ),
    ProcessorCase("a list", {"size": [192, 256]}, (192, 256), None),
    ProcessorCase(
        "a list and its crop",
        {"size": [40, 48], "do_center_crop": True, "crop_size": [24, 32]},
        (24, 32),
        (40, 48),
    ),
    ProcessorCase("crop of all", {"size": {"height": 224, "width": 224}, **CROP}, (224, 224), None),
    ProcessorCase(
        "-1..1", {"size": 8, "rescale_factor": 1 / 127.5}, (8, 8), None, mean=0.25, std=0.125
    ),
    ProcessorCase("not normalised", {"size": 8, "do_normalize": False}, (8, 8), None, 0.0, 1.0),
    ProcessorCase(
        "not rescaled", {"size": 8, "do_rescale": False}, (8, 8), None, 0.5 / 255, 0.25 / 255
    ),
]


@pytest.mark.parametrize("case", PROCESSORS, ids=lambda case: case.name)
def test_a_processor_is_read(case: ProcessorCase) -> None:
    preprocessing = read_processor(BASE | case.values, 3)
    assert preprocessing.size == case.size
    assert preprocessing.resize == case.resize
    assert preprocessing.interpolation is Interpolation.BILINEAR
    assert preprocessing.mean == pytest.approx((case.mean,) * 3)
    assert preprocessing.std == pytest.approx((case.std,) * 3)


@pytest.mark.parametrize(
    "values", [{}, {"size": "big"}, {"size": 8, "resample": 17}, {"size": {"depth": 3}}], ids=repr
)
def test_a_garbled_processor_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"preprocessor_config\.json is incomplete or malformed"):
        read_processor(BASE | values, 3)


def told(tmp_path: Path, **fields: Any) -> Path:
    """A ViT beside a processor's file that has these fields alone."""
    folder = edited(tmp_path, "config.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    return folder


SIDES = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
CROP_OF_20 = {"size": 20, "crop_size": 16}


@pytest.mark.parametrize(
    ("fields", "resize", "mean", "interpolation"),
    [
        ({"image_processor_type": "CLIPImageProcessor", **SIDES}, 20, 0.48145466, "bicubic"),
        ({"feature_extractor_type": "CLIPFeatureExtractor", **SIDES}, 20, 0.48145466, "bicubic"),
        ({"image_processor_type": "BitImageProcessorFast", **SIDES}, 20, 0.48145466, "bicubic"),
        ({"image_processor_type": "PvtImageProcessor", "size": 16}, None, 0.485, "bicubic"),
        ({"image_processor_type": "LevitImageProcessor", **SIDES}, 22, 0.485, "bicubic"),
        (
            {
                **{"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.8},
                **{"size": {"shortest_edge": 16}},
            },
            *(20, 0.5, "bicubic"),
        ),
        ({"size": 16, "image_mean": None, "resample": None}, None, 0.5, "bilinear"),
        ({"size": 16, "do_normalize": None}, None, 0.0, "bilinear"),
        ({"image_processor_type": "CLIPImageProcessor", **CROP_OF_20}, 20, 0.48145466, "bicubic"),
        ({"image_processor_type": "DeiTImageProcessor", **CROP_OF_20}, (20, 20), 0.5, "bicubic"),
        (
            {**CROP_OF_20, "do_center_crop": True, "default_to_square": False},
            *(20, 0.5, "bilinear"),
        ),
    ],
)
def test_fields_that_a_processor_leaves_out_are_those_of_its_class(
    fields: dict[str, Any], resize: Any, mean: float, interpolation: str, tmp_path: Path
) -> None:
    preprocessing = read_model(told(tmp_path, **fields)).network.preprocessing
    assert (preprocessing.size, preprocessing.resize) == ((16, 16), resize)
    assert preprocessing.mean[0] == pytest.approx(mean)
    assert preprocessing.interpolation == interpolation


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"image_processor_type": "OwnImageProcessor"}, "'OwnImageProcessor', whose steps"),
        ({"image_processor_type": "MobileViTImageProcessor"}, "do_flip_channel_order.*red, green"),
        ({"do_sharpen": True}, "says do_sharpen True, which vitedge does not know"),
        ({"do_pad": True, "size_divisor": 32}, "says size_divisor 32.*does not pad"),
        ({"do_resize": False}, "says do_resize false.*say with --resize"),
        ({"do_center_crop": True, "crop_size": 24}, "crop of 24x24 is larger than its size"),
        ({"resample": 4}, r"'resample' is 4, not one of 0 \(nearest\)"),
        (
            {"size": {"longest_edge": 16}},
            "'size' is .*, not a number, two numbers, a shortest_edge, or",
        ),
    ],
)
def test_steps_that_vitedge_lacks_are_refused(
    fields: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=match):
        read_model(told(tmp_path, **{"size": 16, **fields}))


def test_images_of_their_own_sizes_are_resized_as_the_user_says(tmp_path: Path) -> None:
    folder = told(tmp_path, size=16, do_resize=False)
    assert read_model(folder, ImportOptions(resize=0)).network.preprocessing.resize is None
    assert read_model(folder, ImportOptions(resize=20)).network.preprocessing.resize == 20


@pytest.mark.parametrize(
    "fields",
    [
        {"image_processor_type": "DPTImageProcessor", "size": 16, "keep_aspect_ratio": True},
        {"image_processor_type": "BitImageProcessor", **SIDES, "do_center_crop": False},
    ],
)
def test_a_shape_that_is_not_kept_is_told(fields: dict[str, Any], tmp_path: Path) -> None:
    words: list[str] = []
    folder = told(tmp_path, **fields)
    size = (16, 16)
    read_model(folder, ImportOptions(warn=words.append, image_size=size))
    assert len(words) == 1
    assert "keeps the shape of images" in words[0]
    read_model(folder, ImportOptions(warn=words.append, image_size=size, resize=0))
    assert len(words) == 1


def test_depth_anything_gives_a_map_of_the_size_that_is_wanted(tmp_path: Path) -> None:
    folder = edited(
        tmp_path,
        "preprocessor_config.json",
        "hugging_face_depth_anything",
        size={"height": 12, "width": 12},
    )
    network = read_model(folder).network
    assert (network.task, network.main.shape) == (Task.MAP, (12, 12))
    wanted = read_model(folder, ImportOptions(image_size=(24, 16))).network
    assert wanted.main.shape == (24, 16)


@pytest.mark.parametrize(
    ("case", "kind"),
    [("dinov2_model", "Dinov2Backbone"), ("swin", "SwinBackbone"), ("beit", "BeitBackbone")],
)
def test_a_backbone_is_refused_by_its_name(case: str, kind: str, tmp_path: Path) -> None:
    # Their weights are those of the model, whose class token was read as the output.
    folder = edited(tmp_path, "config.json", f"hugging_face_{case}", architectures=[kind])
    with pytest.raises(ModelError, match=rf"is a {kind}, whose outputs are feature maps"):
        read_model(folder)


def test_a_depth_anything_of_another_backbone_is_refused_by_its_name(tmp_path: Path) -> None:
    case = "hugging_face_depth_anything"
    backbone = json.loads((GOLDEN / case / "config.json").read_text())["backbone_config"]
    folder = edited(
        tmp_path, "config.json", case, backbone_config=backbone | {"model_type": "beit"}
    )
    with pytest.raises(ModelError, match=r"backbone of model_type 'beit'.*those with dinov2"):
        read_model(folder)


@pytest.mark.parametrize("case", ["beit", "data2vec"])
def test_a_model_without_its_pooling_layer_is_refused(case: str, tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", f"hugging_face_{case}")
    arrays = load_file(folder / "model.safetensors")
    kept = {
        name: array for name, array in arrays.items() if not re.search(r"pooler|classifier", name)
    }
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"made without its pooling layer.*add_pooling_layer=True"):
        read_model(folder)


def test_a_yolos_of_one_block_has_no_positions_between_blocks(tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", "hugging_face_yolos", num_hidden_layers=1)
    between = "vit.encoder.mid_position_embeddings"
    arrays = {
        name: array
        for name, array in load_file(folder / "model.safetensors").items()
        if ".layer.1." not in name
    }
    without = {name: array for name, array in arrays.items() if name != between}
    save_file(without, folder / "model.safetensors")
    network = read_model(folder).network
    images = np.random.default_rng(0).integers(0, 256, (2, *network.image_shape), np.uint8)
    save_file({**arrays, between: arrays[between][:0].copy()}, folder / "model.safetensors")
    np.testing.assert_array_equal(
        forward(read_model(folder).network, images), forward(network, images)
    )


def test_an_unknown_kind_of_depth_is_refused(tmp_path: Path) -> None:
    folder = edited(
        tmp_path,
        "config.json",
        "hugging_face_depth_anything",
        depth_estimation_type="ordinal",
    )
    with pytest.raises(ModelError, match="depth_estimation_type 'ordinal'"):
        read_model(folder)


def test_a_grid_that_is_only_claimed_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "10MB")
    size = {"height": 2048, "width": 2048}
    folder = edited(tmp_path, "preprocessor_config.json", "hugging_face_dinov3", size=size)
    with pytest.raises(SizeError, match="512 x 512 patches would take"):
        read_model(folder)


def test_windows_that_are_only_claimed_are_bounded(tmp_path: Path) -> None:
    size = {"height": 8192, "width": 8192}
    folder = edited(
        tmp_path, "config.json", "hugging_face_swinv2", image_size=8192, window_size=4096
    )
    values = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(values | {"size": size}))
    with pytest.raises(SizeError, match="would take"):
        read_model(folder)


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("depth_anything", {"reassemble_factors": [0, 0, 0]}),
        ("depth_anything", {"backbone_config": {"out_indices": [9, 9, 9]}}),
        ("clip", {"vision_config": {"num_attention_heads": 0}}),
        ("swin", {"pretrained_window_sizes": None}),
        ("siglip2_vision", {"num_patches": "many"}),
        ("dinov3", {"patch_size": []}),
    ],
)
def test_a_garbled_config_is_one_clear_error(
    case: str, values: dict[str, Any], tmp_path: Path
) -> None:
    folder = edited(tmp_path, "config.json", f"hugging_face_{case}", **values)
    with pytest.raises(ModelError) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "given", "task"),
    [
        (None, None, Task.CLASSES),
        ("single_label_classification", None, Task.CLASSES),
        ("multi_label_classification", None, Task.LABELS),
        ("regression", None, Task.NUMBERS),
        ("multi_label_classification", Task.CLASSES, Task.CLASSES),
        ("regression", Task.EMBEDDING, Task.EMBEDDING),
    ],
)
def test_the_config_says_what_the_outputs_mean(
    problem: str | None, given: Task | None, task: Task, tmp_path: Path
) -> None:
    folder = edited(tmp_path, "config.json", problem_type=problem)
    network = read_model(folder, ImportOptions(task=given)).network
    assert network.task is task
    assert list(network.outputs) == [task.output]
    assert network.labels == (() if task is Task.EMBEDDING else read_model(VIT).network.labels)
    images = np.random.default_rng(0).integers(0, 256, (2, *network.image_shape), np.uint8)
    np.testing.assert_array_equal(
        forward(network, images), forward(read_model(VIT).network, images)
    )


@pytest.mark.parametrize("problem", ["detection", 3, ["regression"]])
def test_another_problem_is_asked_about(problem: object, tmp_path: Path) -> None:
    folder = edited(tmp_path, "config.json", problem_type=problem)
    with pytest.raises(ModelError, match=r"problem_type .*--task classes.*--task numbers"):
        read_model(folder)


def test_a_task_that_the_outputs_cannot_mean_is_refused() -> None:
    with pytest.raises(ModelError, match="numbers for each image, but a map has rows"):
        read_model(VIT, ImportOptions(task=Task.MAP))


def test_segformer_gives_a_map_of_classes_of_the_size_that_is_wanted(tmp_path: Path) -> None:
    names = {str(index): f"kind {index}" for index in range(5)}
    folder = edited(tmp_path, "config.json", "hugging_face_segformer", id2label=names)
    network = read_model(folder, ImportOptions(image_size=(32, 64))).network
    assert (network.task, network.main.shape) == (Task.MAP, (8, 16, 5))
    assert network.labels == tuple(names.values())


@pytest.mark.parametrize(("prefix", "is_sharded"), [("", False), ("backbone.", False), ("", True)])
def test_a_head_of_another_name_is_taken_when_the_user_names_it(
    prefix: str, is_sharded: bool, tmp_path: Path
) -> None:
    folder = edited(tmp_path, "config.json", id2label={"0": "a", "1": "b", "2": "c"})
    arrays = load_file(folder / "model.safetensors")
    renamed = {}
    for name, array in arrays.items():
        is_head = name.startswith("classifier.")
        renamed[name.replace("classifier.", "fc.") if is_head else prefix + name] = array
    if is_sharded:
        (folder / "model.safetensors").unlink()
        save_file(renamed, folder / "model-1.safetensors")
        index = {"weight_map": dict.fromkeys(renamed, "model-1.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(renamed, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"if 'fc' is its head, --head fc"):
        read_model(folder)
    read = read_model(folder, ImportOptions(head="fc"))
    assert "with the head 'fc'" in read.path
    assert read.network.labels == ()  # those of the config are of another head
    images = np.random.default_rng(0).integers(0, 256, (2, *read.network.image_shape), np.uint8)
    expected = forward(read_model(VIT).network, images)
    np.testing.assert_allclose(forward(read.network, images), expected, atol=1e-6)
    with pytest.raises(ModelError, match="no layer 'top' for --head"):
        read_model(folder, ImportOptions(head="top"))


def test_a_folder_with_a_classifier_takes_no_other() -> None:
    for case in ("hugging_face_vit", "hugging_face_sharded"):
        with pytest.raises(ModelError, match="has the head 'classifier' already: leave out --head"):
            read_model(GOLDEN / case, ImportOptions(head="fc"))
