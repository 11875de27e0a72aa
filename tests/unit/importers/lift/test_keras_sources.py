"""Keras models as people have them: several outputs, quantized, of bytes, of their own classes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from vitedge.converters.generic.model import open_generic
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task

MODULE = """
import keras

def gelu(x):
    return keras.activations.gelu(x)

class Trainer(keras.Model):
    def train_step(self, data):
        return super().train_step(data)
"""


def features(image: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Reshape((4, 16))(layers.Conv2D(16, 8, strides=8)(image))
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
    y = layers.Dense(32, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
    x = layers.Add()([x, layers.Dense(16)(y)])
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))


def model(classes: int = 5, activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Dense(classes, activation=activation)(features(image)))


def saved(made: keras.Model, path: Path) -> Path:
    made.save(path)
    return path


def agrees(path: Path, made: keras.Model, output: str | None = None, **options: object) -> None:
    network = read_model(path, ImportOptions(**options)).network
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    theirs = made(pixels / 255)
    wanted = np.asarray(theirs if output is None else theirs[output])
    np.testing.assert_allclose(forward(network, pixels), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "activation", "message"),
    [
        (1, None, "one number for each image.*--task binary.*--task numbers"),
        (1, "tanh", "one number for each image.*--task binary.*--task numbers"),
        (5, "tanh", "ends in Tanh .*--task numbers.*--task embedding"),
        (5, "relu", "ends in Relu .*--task numbers.*--task embedding"),
    ],
)
def test_outputs_that_may_mean_several_things_are_refused(
    classes: int, activation: str | None, message: str, tmp_path: Path
) -> None:
    path = saved(model(classes, activation), tmp_path / "model.keras")
    for read in (read_model, open_generic):
        with pytest.raises(ModelError, match=message):
            read(path, ImportOptions())


@pytest.mark.parametrize(
    ("classes", "activation", "given", "task"),
    [
        (5, None, None, Task.CLASSES),
        (5, "softmax", None, Task.CLASSES),
        (1, "sigmoid", None, Task.BINARY),
        (5, "sigmoid", None, Task.LABELS),
        (1, None, Task.BINARY, Task.BINARY),
        (1, None, Task.NUMBERS, Task.NUMBERS),
        (5, None, Task.NUMBERS, Task.NUMBERS),
        (5, None, Task.LABELS, Task.LABELS),
        (5, None, Task.EMBEDDING, Task.EMBEDDING),
    ],
)
def test_the_end_of_a_model_says_what_its_outputs_mean(
    classes: int, activation: str | None, given: Task | None, task: Task, tmp_path: Path
) -> None:
    made = model(classes, activation)
    path = saved(made, tmp_path / "model.keras")
    made.layers[-1].activation = keras.activations.linear
    network = read_model(path, ImportOptions(task=given)).network
    assert network.task is task
    assert list(network.outputs) == [task.output]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    logits = np.asarray(
        keras.Model(made.input, made.layers[-1](made.layers[-1].input))(pixels / 255)
    )
    np.testing.assert_allclose(forward(network, pixels), logits, atol=1e-4)
    generic = open_generic(path, ImportOptions(task=given))
    assert generic.task is task
    np.testing.assert_allclose(generic.outputs(pixels), logits, atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "activation", "task", "message"),
    [
        (5, None, Task.BINARY, "a binary model gives one number"),
        (5, "softmax", Task.LABELS, "ends in a softmax.*--task classes"),
        (1, None, Task.CLASSES, "classes are a vector of two logits or more"),
        (5, None, Task.MAP, "a map has rows and columns"),
    ],
)
def test_a_task_that_contradicts_the_model_is_refused(
    classes: int, activation: str | None, task: Task, message: str, tmp_path: Path
) -> None:
    path = saved(model(classes, activation), tmp_path / "model.keras")
    for read in (read_model, open_generic):
        with pytest.raises(ModelError, match=message):
            read(path, ImportOptions(task=task))


def test_a_sigmoid_over_classes_is_passed_by_when_the_user_says_so(tmp_path: Path) -> None:
    made = model(5, "sigmoid")
    path = saved(made, tmp_path / "model.keras")
    logits = keras.Model(made.input, layers.Activation("linear")(made.layers[-1].output))
    logits.layers[-2].activation = keras.activations.linear
    agrees(path, logits, task=Task.CLASSES)
    assert open_generic(path, ImportOptions(task=Task.CLASSES)).classes == 5


@pytest.mark.parametrize("kind", ["dictionary", "list", "saved model"])
def test_one_of_several_outputs_is_chosen_by_name(kind: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    found = features(image)
    outputs = {
        "species": layers.Dense(5, name="species")(found),
        "age": layers.Dense(3, name="age")(found),
    }
    named = keras.Model(image, outputs)
    if kind == "saved model":
        path = tmp_path / "saved"
        named.export(path, verbose=False)
    else:
        made = named if kind == "dictionary" else keras.Model(image, list(outputs.values()))
        path = saved(made, tmp_path / "model.keras")
    with pytest.raises(ModelError, match=r"'species' \(5\).*say with --logits NAME"):
        read_model(path)
    agrees(path, named, "species", logits=("species",))
    agrees(path, named, "age", logits=("age",))
    with pytest.raises(ModelError, match="has no output 'size', but"):
        read_model(path, ImportOptions(logits=("size",)))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_what_keras_quantized_is_refused_by_name(mode: str, tmp_path: Path) -> None:
    made = model()
    made.quantize(mode)
    path = saved(made, tmp_path / "model.keras")
    for read in (read_model, open_generic):
        with pytest.raises(ModelError, match=r"is quantized already .*give the float model"):
            read(path, ImportOptions())
    with pytest.raises(ModelError, match="is quantized already"):
        read_model(path, ImportOptions(trust=True))


def test_a_model_of_bytes_lifts(tmp_path: Path) -> None:
    inner = model()
    image = keras.Input((16, 16, 3), dtype="uint8")
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(image)
    path = saved(keras.Model(image, inner(scaled)), tmp_path / "model.keras")
    imported = read_model(path)
    assert "normalises inside" in imported.path
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    wanted = np.asarray(inner(pixels / 127.5 - 1))
    np.testing.assert_allclose(forward(imported.network, pixels), wanted, atol=1e-4)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_layers", raising=False)
    return "own_layers"


def test_a_registered_function_is_taken_by_its_name(tmp_path: Path, own_module: str) -> None:
    path = tmp_path / "model.h5"
    made = model()
    made.save(path)
    with h5py.File(path, "r+") as file:
        config = str(file.attrs["model_config"])
        file.attrs["model_config"] = config.replace('"gelu"', '"Addons>gelu"')
    with pytest.raises(ModelError, match="--custom-objects your_module:gelu"):
        read_model(path)
    agrees(path, made, custom_objects=(f"{own_module}:gelu",))


def test_a_model_of_an_own_class_takes_one_line_to_refuse(tmp_path: Path, own_module: str) -> None:
    trainer = __import__(own_module).Trainer
    made = model()
    path = saved(trainer(made.inputs, made.outputs), tmp_path / "model.keras")
    for options in (ImportOptions(), ImportOptions(trust=True)):
        with pytest.raises(ModelError, match="--custom-objects your_module:Trainer") as caught:
            read_model(path, options)
        assert len(str(caught.value)) < 700
    agrees(path, made, custom_objects=(f"{own_module}:Trainer",))


def test_a_layer_of_keras_2_in_a_file_of_no_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    shutil.copy(Path(__file__).parents[3] / "golden" / "lift" / "keras_2.h5", path)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = ".21.0"
    with pytest.raises(ModelError, match=r"is of Keras 2, but the version .* is '\.21\.0'"):
        read_model(path)
