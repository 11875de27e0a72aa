"""Our own ``model.keras`` read without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.canonical import PLUGIN
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Norm, Standardize
from vitedge.network.saved import described

# TensorFlow's variables have NumPy 1's __array__; goes when TensorFlow follows NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Case:
    name: str
    parts: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("plain"),
    Case("twelve blocks", {"depth": 12}),
    Case("all norms", {"qk_norm": True, "input_norm": True, "pooled_norm": True}),
    Case("hidden head", {"head_hidden": (12, 14), "labels": False}),
    Case("no prefix", {"prefix_tokens": 0, "pooling": Pooling.MEAN}),
    Case("distilled", {"prefix_tokens": 2, "pooling": Pooling.DISTILLED}),
    Case("registers", {"prefix_tokens": 5, "pooling": Pooling.CLASS_AND_MEAN}),
    Case("flatten", {"pooling": Pooling.FLATTEN, "activation": Activation.QUICK_GELU}),
    Case("post-norm RMS", {"norm_position": NormPosition.POST, "norm_kind": NormKind.RMS}),
    Case("grey rectangles", {"channels": 1, "image_size": (16, 32), "patch_size": (4, 8)}),
]


def saved(network: Network, path: Path) -> Path:
    from vitedge.in_keras.model import to_keras

    to_keras(network).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_network(), tmp_path_factory.mktemp("canonical") / "model.keras")


def assert_same(one: Network, other: Network) -> None:
    first, second = described(one), described(other)
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name, array in first[1].items():
        assert array.dtype == second[1][name].dtype, name
        np.testing.assert_array_equal(array, second[1][name], err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_keras_loads_is_read_to_the_bit(case: Case, tmp_path: Path) -> None:
    import keras

    from vitedge.in_keras.model import from_keras

    path = saved(random_network(**case.parts), tmp_path / "model.keras")
    imported = read_model(path)
    assert imported.path == "by name: vitedge"
    assert_same(imported.network, from_keras(keras.saving.load_model(path)))


@pytest.mark.thorough
def test_a_trained_and_compiled_model_is_read(tmp_path: Path) -> None:
    from vitedge.in_keras.model import from_keras, to_keras

    model = to_keras(random_network())
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.zeros((2, 32, 32, 3), np.uint8), np.ones((2, 10), np.float32), verbose=0)
    model.save(tmp_path / "model.keras")
    assert_same(read_model(tmp_path / "model.keras").network, from_keras(model))


def test_reading_loads_neither_keras_nor_tensorflow(model: Path) -> None:
    program = (
        "import sys, pathlib; from vitedge.importers import read_model; "
        f"read_model(pathlib.Path({str(model)!r})); "
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_options_are_laid_over_the_file(model: Path) -> None:
    options = ImportOptions(
        image_size=(48, 32),
        activation=Activation.RELU,
        norm_eps=1e-3,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        resize=56,
        interpolation=Interpolation.BILINEAR,
        labels=tuple("abcdefghij"),
    )
    network = read_model(model, options).network
    operators = [value.operator for value in network.values]
    assert network.image_shape[:2] == network.preprocessing.size == (48, 32)
    assert dict(network.named_arrays())["positions"].shape == (24, 24)
    assert {each.kind for each in operators if isinstance(each, Activate)} == {Activation.RELU}
    assert {each.eps for each in operators if isinstance(each, Norm)} == {1e-3}
    (shift,) = (each for each in operators if isinstance(each, Standardize))
    assert (shift.mean, shift.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert forward(network, random_images(network)).shape == (2, 10)
    assert network.preprocessing.mean == (0.5, 0.5, 0.5)
    assert network.preprocessing.std == (0.25, 0.25, 0.25)
    assert network.preprocessing.resize == 56
    assert network.preprocessing.interpolation is Interpolation.BILINEAR
    assert network.labels == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ImportOptions(heads=4), "has 3 heads, not 4"),
        (ImportOptions(image_size=(30, 32)), "not a multiple of patch size"),
        (ImportOptions(labels=("a", "b")), "2 labels for 10 classes"),
        (ImportOptions(mean=(0.5,)), "need one value for each of 3 channels"),
        (ImportOptions(resize=16), "leaves too little to crop"),
    ],
    ids=["heads", "image size", "labels", "mean", "resize"],
)
def test_options_that_contradict_the_model_are_errors(
    model: Path, options: ImportOptions, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(model, options)


def test_a_head_that_reads_all_tokens_fixes_the_image_size(tmp_path: Path) -> None:
    path = saved(random_network(pooling=Pooling.FLATTEN), tmp_path / "model.keras")
    with pytest.raises(ModelError, match="so the image size is fixed"):
        read_model(path, ImportOptions(image_size=(48, 48)))


def test_someone_elses_keras_file_is_not_ours(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    assert not PLUGIN.recognizes(path)


def test_a_foreign_zip_a_text_and_a_folder_are_not_ours(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.keras"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("config.json", "[1, 2")
    text = tmp_path / "text.keras"
    text.write_text("not a model")
    for path in (foreign, text, tmp_path, tmp_path / "absent.keras"):
        assert not PLUGIN.recognizes(path)
        with pytest.raises(ModelError):
            read_model(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_a_model_error(model: Path, share: float, tmp_path: Path) -> None:
    data = model.read_bytes()
    path = tmp_path / "cut.keras"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError):
        read_model(path)


def more_arrays(config: dict[str, Any]) -> None:
    config["arrays"].append({"name": "more", "shape": [3], "dtype": "float32"})


def another_shape(config: dict[str, Any]) -> None:
    config["arrays"][0]["shape"][0] += 1


def another_name(config: dict[str, Any]) -> None:
    config["arrays"][0]["name"] = "other"


def another_operator(config: dict[str, Any]) -> None:
    config["network"]["values"][-1]["operator"] = "Exec"


def no_list(config: dict[str, Any]) -> None:
    config["arrays"] = 7


def no_shape(config: dict[str, Any]) -> None:
    config["arrays"][0]["shape"] = [float("1e300")]


def no_numbers(config: dict[str, Any]) -> None:
    (each,) = (each for each in config["arrays"] if each["name"].startswith("blocks.0/scaled"))
    each["numbers"] = ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (more_arrays, "lacks the weights 'vars/"),
        (another_shape, "has shape"),
        (another_name, "is missing"),
        (another_operator, "'Exec' is not an operator"),
        (no_list, "incomplete or malformed"),
        (no_shape, "has shape|incomplete or malformed"),
        (no_numbers, "incomplete or malformed"),
    ],
)
def test_a_config_that_does_not_fit_says_what(model: Path, change, message, tmp_path: Path) -> None:
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
        config = json.loads(old.read("config.json"))
        change(config["config"])
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(ModelError, match=message):
        read_model(path)
