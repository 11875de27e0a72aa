"""KerasHub, vit-keras and the tutorial: what configs say, and what weights alone do not."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf

from tests.support.golden_cases import GOLDEN
from tests.support.plain import plain
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.reading.keras_archive import archived_config
from vitedge.importers.reading.saved_model import split_heads
from vitedge.network.kinds import Activation


@pytest.mark.parametrize("case", ["vit_keras_keras", "vit_tutorial_keras"])
def test_a_model_saved_whole_tells_its_heads(case: str) -> None:
    path = next((GOLDEN / case).glob("*.keras"))
    assert plain(read_model(path).network).heads == 2


def test_a_saved_model_tells_its_heads_by_the_models_arguments() -> None:
    assert plain(read_model(GOLDEN / "vit_tutorial_saved_model" / "saved").network).heads == 2


@pytest.mark.parametrize(("heads", "wanted"), [((4,), 4), ((4, 2), None)])
def test_a_saved_model_tells_its_heads_by_what_it_traced(
    heads: tuple[int, ...], wanted: int | None, tmp_path: Path
) -> None:
    class Attention(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 9, 48))])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            for number in heads:
                with tf.name_scope("multi_head_self_attention"):
                    # The batch is read off the images, as the tutorial does it.
                    stacked = tf.reshape(x, [tf.shape(x)[0], -1, 3, number, 16 // number])
                    x = tf.reshape(stacked, [-1, 9, 48])
            return x

    tf.saved_model.save(Attention(), str(tmp_path))
    assert split_heads(tmp_path, "multi_head_self_attention", 16) == wanted
    assert split_heads(tmp_path, "another", 16) is None
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ModelError, match="truncated or damaged"):
        split_heads(tmp_path, "multi_head_self_attention", 16)


@pytest.mark.parametrize("file", ["vit_keras_weights_h5/vit.weights.h5", "vit_tutorial_h5/vit.h5"])
def test_weights_alone_need_the_heads_of_an_unusual_width(file: str) -> None:
    with pytest.raises(ModelError, match="width 16 has no usual one: give --heads"):
        read_model(GOLDEN / file)


def test_each_source_has_the_activation_of_its_code() -> None:
    tutorial = read_model(GOLDEN / "vit_tutorial_keras" / "vit.keras").network
    assert plain(tutorial).activation is Activation.GELU_TANH
    vit_keras = GOLDEN / "vit_keras_keras" / "vit.keras"
    assert plain(read_model(vit_keras).network).activation is Activation.GELU
    older = ImportOptions(activation=Activation.GELU_TANH)
    assert plain(read_model(vit_keras, older).network).activation is Activation.GELU_TANH


def test_a_lambda_lies_in_the_file_that_is_read_without_it() -> None:
    config = json.dumps(archived_config(GOLDEN / "vit_keras_keras" / "vit.keras"))
    assert "__lambda__" in config


def test_keras_hub_averages_a_class_token_with_the_patches() -> None:
    path = GOLDEN / "keras_hub_averaged_with_class_token" / "model.keras"
    assert plain(read_model(path).network).pooling is Pooling.FLATTEN
    with pytest.raises(ModelError, match="so the image size is fixed"):
        read_model(path, ImportOptions(image_size=(32, 32)))
    path = GOLDEN / "keras_hub_averaged" / "model.keras"
    assert plain(read_model(path).network).pooling is Pooling.MEAN
    larger = read_model(path, ImportOptions(image_size=(32, 32))).network
    assert plain(larger).grid == (8, 8)


def test_a_preset_without_a_classifier_is_not_recognized(tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(GOLDEN / "keras_hub_vit_preset", folder)
    (folder / "task.json").unlink()
    with pytest.raises(ModelError, match="is not a model that vitedge can read"):
        read_model(folder)


def test_a_config_that_contradicts_the_weights_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(GOLDEN / "keras_hub_vit" / "model.keras") as old:
        config = old.read("config.json").replace(b'"num_layers": 2', b'"num_layers": 3')
        with zipfile.ZipFile(path, "w") as new:
            new.writestr("config.json", config)
            new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(ModelError, match=r"lacks the weights '.*vi_t_encoder_block_2/"):
        read_model(path)


def test_a_resize_of_keras_hub_that_vitedge_lacks_is_refused_or_told(tmp_path: Path) -> None:
    # Padding was left out silently, and so was the resize without smoothing.
    folder = shutil.copytree(GOLDEN / "keras_hub_converter_preset", tmp_path / "preset")
    words: list[str] = []
    read_model(folder, ImportOptions(warn=words.append))
    assert len(words) == 1
    assert "without antialias" in words[0]
    path = folder / "image_converter.json"
    converter = json.loads(path.read_text("utf-8"))
    converter["config"] |= {"pad_to_aspect_ratio": True, "antialias": True}
    path.write_text(json.dumps(converter), "utf-8")
    with pytest.raises(ModelError, match=r"says pad_to_aspect_ratio.* say with --resize"):
        read_model(folder)
    stretched = read_model(folder, ImportOptions(resize=0, warn=words.append)).network
    assert stretched.preprocessing.resize is None
    assert len(words) == 1
