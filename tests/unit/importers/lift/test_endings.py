"""What stands at a model's end is told by what it computes, however it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from vitedge.converters.generic.model import open_generic
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task

SOURCE = Path(__file__).parents[3] / "golden" / "lift" / "torchvision_script_one.onnx"
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)

SIGMOIDS = {
    "quotient": ["n = Neg (z)", "e = Exp (n)", "s = Add (e, one)", "y = Div (one, s)"],
    "reciprocal": ["n = Neg (z)", "e = Exp (n)", "s = Add (one, e)", "y = Reciprocal (s)"],
    "exponential over one more": ["e = Exp (z)", "s = Add (e, one)", "y = Div (e, s)"],
    "tangent": ["h = Mul (z, half)", "t = Tanh (h)", "s = Add (t, one)", "y = Mul (s, half)"],
    "softplus": ["n = Neg (z)", "s = Softplus (n)", "m = Neg (s)", "y = Exp (m)"],
    "clipped": ["s = Sigmoid (z)", "y = Clip (s, low, high)"],
}
SOFTMAXES = {
    "quotient": ["e = Exp (z)", "s = ReduceSum <keepdims=1> (e, last)", "y = Div (e, s)"],
    "less the largest": [
        *("m = ReduceMax <keepdims=1> (z, last)", "d = Sub (z, m)", "e = Exp (d)"),
        *("s = ReduceSum <keepdims=1> (e, last)", "y = Div (e, s)"),
    ],
    "of logarithms": ["l = LogSoftmax (z)", "y = Exp (l)"],
    "clipped": ["s = Softmax (z)", "y = Clip (s, low, high)"],
}
NEITHER = {
    "prior": ["s = Softmax (z)", "y = Mul (s, half)"],
    "two models": ["a = Softmax (z)", "n = Neg (z)", "b = Softmax (n)", "y = Add (a, b)"],
    "percent": ["s = Sigmoid (z)", "y = Div (s, half)"],
    "exponentials": ["y = Exp (z)"],
    "squares over their sum": [
        *("e = Mul (z, z)", "s = ReduceSum <keepdims=1> (e, last)", "y = Div (e, s)"),
    ],
}


def with_end(steps: list[str], target: Path) -> Path:
    """The golden model with more nodes behind its logits ``z``; the last one makes ``y``."""
    model = onnx.load(SOURCE)
    output = model.graph.output[0]
    inner, output.name = output.name, "y"
    constants = {"one": 1.0, "half": 0.5, "low": 1e-7, "high": 1 - 1e-7}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "last"))
    model.graph.node.append(helper.make_node("Identity", [inner], ["z"]))
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float z) => (float y) { %s }'
    model.graph.node.extend(onnx.parser.parse_model(text % "\n".join(steps)).graph.node)
    onnx.save(model, target)
    return target


def logits_of(path: Path, **options: object) -> tuple[Task, np.ndarray, str]:
    imported = read_model(path, ImportOptions(**options))
    return imported.network.task, np.asarray(forward(imported.network, PIXELS)), imported.path


@pytest.mark.parametrize("steps", SIGMOIDS.values(), ids=SIGMOIDS.keys())
def test_a_sigmoid_is_found_and_removed_however_it_is_spelled(
    steps: list[str], tmp_path: Path
) -> None:
    task, found, words = logits_of(with_end(steps, tmp_path / "m.onnx"))
    assert task is Task.LABELS
    np.testing.assert_allclose(found, logits_of(SOURCE)[1], atol=1e-4)
    assert "outputs are labels, sigmoid at the end removed" in words


@pytest.mark.parametrize("steps", SOFTMAXES.values(), ids=SOFTMAXES.keys())
def test_a_softmax_is_found_and_removed_however_it_is_spelled(
    steps: list[str], tmp_path: Path
) -> None:
    path = with_end(steps, tmp_path / "m.onnx")
    task, found, words = logits_of(path)
    assert task is Task.CLASSES
    np.testing.assert_allclose(found, logits_of(SOURCE)[1], atol=1e-4)
    assert "softmax at the end removed" in words
    with pytest.raises(ModelError, match=r"ends in a softmax .*give --task classes, not labels"):
        logits_of(path, task=Task.LABELS)


@pytest.mark.parametrize("steps", NEITHER.values(), ids=NEITHER.keys())
def test_what_is_neither_is_asked_for(steps: list[str], tmp_path: Path) -> None:
    path = with_end(steps, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="say what its outputs mean with --task"):
        logits_of(path)


@pytest.mark.parametrize("name", ["prior", "two models", "percent"])
def test_what_follows_a_softmax_is_kept_in_numbers(name: str, tmp_path: Path) -> None:
    path = with_end(NEITHER[name], tmp_path / "m.onnx")
    task, found, _ = logits_of(path, task=Task.NUMBERS, mean=(0.0,) * 3, std=(1.0,) * 3)
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    pixels = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2) / 255)
    (expected,) = session.run(None, {image.name: pixels})
    assert task is Task.NUMBERS
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_user_may_say_that_a_spelled_sigmoid_is_over_classes(tmp_path: Path) -> None:
    path = with_end(SIGMOIDS["quotient"], tmp_path / "m.onnx")
    task, found, _ = logits_of(path, task=Task.CLASSES)
    assert task is Task.CLASSES
    np.testing.assert_allclose(found, logits_of(SOURCE)[1], atol=1e-4)


def test_models_without_attention_end_alike(tmp_path: Path) -> None:
    path = with_end(SIGMOIDS["reciprocal"], tmp_path / "m.onnx")
    opened = open_generic(path, ImportOptions())
    assert opened.task is Task.LABELS
    plain = open_generic(SOURCE, ImportOptions())
    np.testing.assert_allclose(opened.outputs(PIXELS), plain.outputs(PIXELS), atol=1e-5)
