"""A config that claims more than fits into memory is refused before anything is allocated."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitedge.errors import SizeError
from vitedge.files import limits
from vitedge.importers import ImportOptions, read_model


def refusal(path: Path) -> str:
    """The message with which a source is refused, before it took memory."""
    read_model_once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SizeError) as refused:
        read_model(path, ImportOptions())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB on Linux
    assert "\n" not in str(refused.value)
    return str(refused.value)


def read_model_once() -> None:
    """Has TensorFlow take what it takes for itself."""
    keras.ops.convert_to_numpy(keras.layers.Dense(2)(np.zeros((1, 3), np.float32)))


def saved(path: Path, *layers: keras.layers.Layer) -> Path:
    keras.Sequential([keras.Input((16, 16, 3)), *layers]).save(path)
    return path


def with_config_changed(path: Path, old: str, new: str) -> Path:
    """The file with a text in its config replaced."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            assert old in file.attrs["model_config"]
            file.attrs["model_config"] = file.attrs["model_config"].replace(old, new)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old.encode() in members["config.json"]
    members["config.json"] = members["config.json"].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_with_more_weights_than_the_bound_are_not_built(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"m{suffix}", keras.layers.Flatten(), keras.layers.Dense(10))
    read = refusal(with_config_changed(path, '"units": 10', '"units": 3000000000'))
    assert "'dense" in read
    assert "9,216.0 GB" in read
    assert "--max-source-size 9217GB" in read


def test_many_layers_below_the_bound_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = [keras.layers.Dense(50, name=f"hidden{index}") for index in range(20)]
    path = saved(tmp_path / "m.keras", keras.layers.GlobalAveragePooling2D(), *dense)
    monkeypatch.setenv(limits.VARIABLE, "100MB")
    read = refusal(with_config_changed(path, "50", "1800"))
    assert "'hidden" in read


def test_keras_gets_its_layers_back_afterwards(tmp_path: Path) -> None:
    before = keras.layers.Layer.add_weight
    path = saved(tmp_path / "m.keras", keras.layers.Flatten(), keras.layers.Dense(10))
    refusal(with_config_changed(path, '"units": 10', '"units": 3000000000'))
    assert keras.layers.Layer.add_weight is before


def test_a_layer_that_blows_pictures_up_is_not_run(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "m.keras",
        keras.layers.UpSampling2D(20_000),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    )
    assert "1,228.8 GB" in refusal(path)


def test_an_onnx_graph_that_blows_pictures_up_is_not_run(tmp_path: Path) -> None:
    weight = np.ones((3, 10), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Tile", ["image", "repeats"], ["large"]),
            helper.make_node("GlobalAveragePool", ["large"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(np.array([1, 1, 20_000, 20_000], np.int64), "repeats"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert "'large'" in refusal(path)
