"""Our own ``model.keras`` read without Keras."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import random_vit
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.canonical import PLUGIN
from vitedge.spec import Activation, Interpolation, NormKind, NormPosition, Pooling
from vitedge.vit import ViT

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


def saved(vit: ViT, path: Path) -> Path:
    from vitedge.keras_model import to_keras

    to_keras(vit).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_vit(), tmp_path_factory.mktemp("canonical") / "model.keras")


def assert_same(one: ViT, other: ViT) -> None:
    assert one.config == other.config
    assert one.preprocessing == other.preprocessing
    assert one.labels == other.labels
    assert {n: norm.eps for n, norm in one.named_norms()} == {
        n: norm.eps for n, norm in other.named_norms()
    }
    expected = dict(other.named_arrays())
    found = dict(one.named_arrays())
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_keras_loads_is_read_to_the_bit(case: Case, tmp_path: Path) -> None:
    import keras

    from vitedge.keras_model import from_keras

    path = saved(random_vit(**case.parts), tmp_path / "model.keras")
    imported = read_model(path)
    assert imported.path == "by name: vitedge"
    assert_same(imported.vit, from_keras(keras.saving.load_model(path)))


def test_a_trained_and_compiled_model_is_read(tmp_path: Path) -> None:
    from vitedge.keras_model import from_keras, to_keras

    model = to_keras(random_vit())
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.zeros((2, 32, 32, 3), np.uint8), np.ones((2, 10), np.float32), verbose=0)
    model.save(tmp_path / "model.keras")
    assert_same(read_model(tmp_path / "model.keras").vit, from_keras(model))


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
    vit = read_model(model, options).vit
    assert vit.config.image_size == vit.preprocessing.size == (48, 32)
    assert vit.positions.shape == (24, 24)
    assert vit.config.activation is Activation.RELU
    assert {norm.eps for _, norm in vit.named_norms()} == {1e-3}
    assert vit.preprocessing.mean == (0.5, 0.5, 0.5)
    assert vit.preprocessing.std == (0.25, 0.25, 0.25)
    assert vit.preprocessing.resize == 56
    assert vit.preprocessing.interpolation is Interpolation.BILINEAR
    assert vit.labels == tuple("abcdefghij")


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
    path = saved(random_vit(pooling=Pooling.FLATTEN), tmp_path / "model.keras")
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


def test_a_file_without_one_of_its_weights_names_it(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "deeper.keras"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
        config = old.read("config.json").replace(b'"depth": 2', b'"depth": 3')
        new.writestr("config.json", config)
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(ModelError, match="lacks the weights 'blocks/transformer_block_2/"):
        read_model(path)
