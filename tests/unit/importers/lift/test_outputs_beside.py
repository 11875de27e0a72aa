"""Several outputs of one source, such as a detector's logits and boxes, read as one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.contract.test_converters_of_networks import run, written
from tests.support import generic_models
from tests.unit.importers.lift.test_network_form import GOLDEN
from vitedge.converters.generic.model import open_generic
from vitedge.errors import ModelError, NotAViTError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.quantize import Recipe
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

SIDE = 4


def tokens_of(model: onnx.ModelProto) -> str:
    """The last tensor of the graph with a row for each of several tokens."""
    inferred = onnx.shape_inference.infer_shapes(model)
    rows = [
        each.name
        for each in inferred.graph.value_info
        if len(each.type.tensor_type.shape.dim) == 3
        and each.type.tensor_type.shape.dim[1].dim_value > 1
    ]
    return rows[-1]


def detector(path: Path) -> tuple[onnx.ModelProto, int]:
    """A classifier with boxes of its tokens and a map with channels first beside the logits."""
    model = onnx.load(GOLDEN / "rope_and_swiglu.onnx")
    tokens = tokens_of(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    (shape,) = (each for each in inferred.graph.value_info if each.name == tokens)
    _, count, width = (each.dim_value for each in shape.type.tensor_type.shape.dim)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((width, 4)).astype(np.float32)
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(weight, "box weight"),
            numpy_helper.from_array(np.asarray([1, 4, SIDE, SIDE]), "map shape"),
            numpy_helper.from_array(np.ones((1, 2), np.float32), "fixed numbers"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("MatMul", [tokens, "box weight"], ["box logits"]),
            helper.make_node("Sigmoid", ["box logits"], ["boxes"]),
            helper.make_node("Transpose", ["box logits"], ["turned"], perm=(0, 2, 1)),
            helper.make_node("Reshape", ["turned", "map shape"], ["heat"]),
            helper.make_node("Identity", ["fixed numbers"], ["fixed"]),
            helper.make_node("Cast", ["boxes"], ["places"], to=TensorProto.INT64),
        ]
    )
    for name, kind in (("boxes", 1), ("heat", 1), ("fixed", 1), ("places", TensorProto.INT64)):
        graph.output.append(helper.make_tensor_value_info(name, kind, None))
    onnx.save(model, path)
    return model, count


def of_source(path: Path, network: Network, pixels: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    mean, std = network.preprocessing.mean, network.preprocessing.std
    image = ((pixels / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    main = session.get_outputs()[0].name
    return session.run([main, "boxes", "heat"], {session.get_inputs()[0].name: image})


@pytest.fixture
def pixels() -> np.ndarray:
    size = read_model(GOLDEN / "rope_and_swiglu.onnx").network.image_shape
    return np.random.default_rng(1).integers(0, 256, (1, *size)).astype(np.float32)


def test_a_detectors_outputs_are_one_network_in_all_formats(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / "detector.onnx"
    model, count = detector(path)
    options = ImportOptions(logits=(model.graph.output[0].name,), beside=("boxes", "heat"))
    network = read_model(path, options).network
    shapes = {name: value.shape for name, value in network.outputs.items()}
    assert list(shapes) == ["logits", "boxes", "heat"]
    assert shapes["boxes"] == (count, 4)
    assert shapes["heat"] == (SIDE, SIDE, 4)  # channels last, as every map of an artefact
    logits, boxes, heat = of_source(path, network, pixels)
    expected = {"logits": logits, "boxes": boxes, "heat": heat.transpose(0, 2, 3, 1)}
    for name, found in evaluate(network, pixels).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-4, err_msg=name)
    rewritten, _ = apply_rewrites(network)
    for target in all_formats():
        made = run(written(rewritten, Recipe(Precision.FP32), target, tmp_path), target, pixels)
        for name, found in made.items():
            np.testing.assert_allclose(found, expected[name], atol=1e-3, err_msg=name)


def test_an_output_beside_that_cannot_be_given_is_named(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    main = detector(path)[0].graph.output[0].name
    refused = {
        "masks": (ModelError, "has no output 'masks', but"),
        "places": (ModelError, "'places' of .* holds no float numbers"),
        "fixed": (NotAViTError, "'fixed' does not depend on the image"),
        "logits": (ModelError, "the main output is called 'logits'|no output 'logits'"),
    }
    for name, (kind, words) in refused.items():
        with pytest.raises(kind, match=words):
            read_model(path, ImportOptions(logits=(main,), beside=(name,)))


def test_a_source_that_is_read_by_its_names_gives_no_other_output(tmp_path: Path) -> None:
    from vitedge.pipeline.keras_model import write_keras

    path = tmp_path / "model.keras"
    write_keras(read_model(GOLDEN / "rope_and_swiglu.onnx").network, path)
    with pytest.raises(ModelError, match="give no output 'boxes': leave out --beside"):
        read_model(path, ImportOptions(beside=("boxes",)))


def test_outputs_of_a_keras_model_are_read_beside_its_logits(tmp_path: Path) -> None:
    import keras

    model = generic_models.build("swin")
    inner = next(each for each in reversed(model.layers) if len(each.output.shape) > 2)
    outputs = {"logits": model.output, "tokens": keras.layers.Dense(4)(inner.output)}
    both = keras.Model(model.input, outputs)
    both.save(tmp_path / "model.keras")
    custom = generic_models.CUSTOM_OBJECTS
    options = ImportOptions(custom_objects=custom, beside=("tokens",))
    network = read_model(tmp_path / "model.keras", options).network
    images = generic_models.pixels(2)
    expected = both(images.astype(np.float32), training=False)
    for name, found in evaluate(network, images).items():
        np.testing.assert_allclose(found, np.asarray(expected[name]), atol=1e-4, err_msg=name)
    assert list(network.outputs) == ["logits", "tokens"]
    assert network.task is Task.CLASSES
    assert Format.TFLITE in all_formats()


def test_outputs_that_are_left_out_are_named(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    model, _ = detector(path)
    logits = model.graph.output[0].name
    told = read_model(path, ImportOptions(logits=(logits,), beside=("boxes",))).path
    assert told.endswith(
        "outputs 'heat', 'fixed', 'places' left out (--beside NAME gives one, too)"
    )
    del model.graph.output[2:]
    onnx.save(model, path)
    # The one output of a vector for each image is taken for the logits.
    assert "output 'boxes' left out" in read_model(path).path
    both = ImportOptions(logits=(logits,), beside=("boxes",))
    assert "left out" not in read_model(path, both).path


@pytest.mark.parametrize("file", ["model.keras", "saved"])
def test_outputs_of_a_keras_model_that_are_left_out_are_named(file: str, tmp_path: Path) -> None:
    import keras

    model = generic_models.build("cnn")
    outputs = {"logits": model.output, "box": keras.layers.Dense(4)(model.layers[-2].output)}
    both, path = keras.Model(model.input, outputs), tmp_path / file
    both.save(path) if path.suffix else both.export(path, verbose=False)
    assert "output 'box' left out" in open_generic(path, ImportOptions()).words
    with pytest.raises(NotAViTError, match=r"not 'box': .*; leave out --beside"):
        convert(path, ConvertOptions(importing=ImportOptions(beside=("box",)), output=tmp_path))
    assert not list(tmp_path.glob("*.tflite"))
