"""A trunk of ours with its source's own tail behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitedge
from tests.support.models import random_network
from tests.unit.importers.lift.test_network_form import GOLDEN
from tests.unit.importers.lift.test_outputs_beside import tokens_of
from vitedge.converters.openvino.emitter import GROUP_SIZE
from vitedge.errors import ConversionError, ModelError, NotAViTError, UsageError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.tasks import Task
from vitedge.pipeline.tail import tail_of

OPTIONS = {"logits": "boxes", "beside": "scores", "task": "embedding", "tail": True}


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """Boxes and scores of each token, and what non-maximum suppression leaves of them."""
    model = onnx.load(GOLDEN / "rope_and_swiglu.onnx")
    tokens = tokens_of(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    (shape,) = (each for each in inferred.graph.value_info if each.name == tokens)
    width = shape.type.tensor_type.shape.dim[2].dim_value
    rng = np.random.default_rng(0)
    # Small, so that no sigmoid is a step, which no rounding would leave alone.
    weights = rng.standard_normal((2, width, 4)).astype(np.float32) / np.float32(width**0.5)
    arrays = {
        "box weight": weights[0],
        "score weight": weights[1, :, :2],
        "most": np.asarray([8]),
        "overlap": np.asarray([0.6], np.float32),
        "least": np.asarray([0.1], np.float32),
    }
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in arrays.items())
    graph.node.extend(
        [
            helper.make_node("MatMul", [tokens, "box weight"], ["raw boxes"]),
            helper.make_node("Sigmoid", ["raw boxes"], ["boxes"]),
            helper.make_node("MatMul", [tokens, "score weight"], ["raw scores"]),
            helper.make_node("Transpose", ["raw scores"], ["scores"], perm=(0, 2, 1)),
            helper.make_node(
                "NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["found"]
            ),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("found", TensorProto.INT64, [None, 3]))
    path = tmp_path / "detector.onnx"
    onnx.save(model, path)
    return path


def of_source(path: Path, pixels: np.ndarray) -> np.ndarray:
    from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = (pixels / 255 - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    fed = {session.get_inputs()[0].name: image.astype(np.float32).transpose(0, 3, 1, 2)}
    (found,) = session.run(["found"], fed)
    return np.asarray(found)


def test_a_tail_that_nobody_reads_stands_behind_the_trunk(detector: Path, tmp_path: Path) -> None:
    made = vitedge.convert(
        detector,
        precisions=["fp32", "int8"],
        formats="onnx",
        output=tmp_path,
        warn=lambda _: None,
        **OPTIONS,
    )
    sessions = [
        onnxruntime.InferenceSession(str(each.path), providers=["CPUExecutionProvider"])
        for each in made.artifacts
    ]
    for session in sessions:
        names = [each.name for each in session.get_outputs()]
        assert names == ["embedding", "scores", "found"]
    shape = sessions[0].get_inputs()[0].shape
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)
        (exact,), (rounded,) = (each.run(["found"], {"pixels": pixels}) for each in sessions)
        np.testing.assert_array_equal(exact, of_source(detector, pixels))
        assert rounded.shape[1] == 3
    kinds = [node.op_type for node in onnx.load(made.artifacts[1].path).graph.node]
    assert "NonMaxSuppression" in kinds
    assert {"MatMulInteger", "QuantizeLinear", "DynamicQuantizeLinear"} & set(kinds)


def test_openvino_holds_a_tail_as_well(detector: Path, tmp_path: Path) -> None:
    import openvino

    made = vitedge.convert(
        detector,
        precisions=["fp32", "int8"],
        formats="openvino",
        output=tmp_path,
        warn=lambda _: None,
        **OPTIONS,
    )
    exact, rounded = (
        openvino.Core().compile_model(each.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for each in made.artifacts
    )
    names = [min(each.names) for each in exact.outputs]
    assert names == ["embedding", "scores", "found"]
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, exact.input(0).shape)
        pixels = pixels.astype(np.float32)
        for _ in range(2):
            found = exact(pixels)["found"]
            np.testing.assert_array_equal(found, of_source(detector, pixels))
        assert rounded(pixels)["found"].shape[1] == 3
    (of_trunk,) = vitedge.convert(
        detector,
        precisions="int8",
        formats="openvino",
        output=tmp_path / "trunk",
        warn=lambda _: None,
        **{**OPTIONS, "tail": False},
    ).artifacts
    with_tail, without = (
        openvino.Core().read_model(path) for path in (made.artifacts[1].path, of_trunk.path)
    )
    assert with_tail.has_rt_info(GROUP_SIZE) == without.has_rt_info(GROUP_SIZE)


@pytest.mark.parametrize("precision", ["int8-static", "w8a16"])
def test_a_tail_in_float_stands_behind_a_trunk_of_integers(
    precision: str, detector: Path, tmp_path: Path
) -> None:
    made = vitedge.convert(
        detector,
        precisions=["fp32", precision],
        formats="onnx",
        output=tmp_path,
        warn=lambda _: None,
        **OPTIONS,
    )
    exact, integers = (
        onnxruntime.InferenceSession(str(each.path), providers=["CPUExecutionProvider"])
        for each in made.artifacts
    )
    main, *others = (each.type for each in integers.get_outputs())
    assert main.startswith("tensor(uint")  # the output whose scale the file names
    assert others == ["tensor(float)", "tensor(int64)"]
    pixels = np.random.default_rng(0).integers(0, 256, exact.get_inputs()[0].shape, np.uint8)
    (expected,) = exact.run(["scores"], {"pixels": pixels.astype(np.float32)})
    scores, found = integers.run(["scores", "found"], {"pixels": pixels})
    error = np.square(scores - expected).sum() / np.square(expected).sum()
    assert error < 10 ** (-8 / 10)  # the precision's own tolerance
    assert found.shape[1] == 3
    with pytest.raises(ConversionError, match="computes in integers alone"):
        vitedge.convert(
            detector,
            precisions=precision,
            formats="onnx",
            output=tmp_path / "trunk",
            warn=lambda _: None,
            **{**OPTIONS, "tail": False},
        )


def test_the_message_says_where_the_trunk_may_end(detector: Path) -> None:
    with pytest.raises(NotAViTError, match=r"--logits and --beside take .*'boxes' and 'scores'"):
        read_model(detector, ImportOptions(task=Task.EMBEDDING))


def test_tflite_cannot_hold_a_tail(detector: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="tflite files cannot hold a source's own nodes"):
        vitedge.convert(
            detector,
            precisions="fp32",
            formats="tflite",
            output=tmp_path,
            warn=lambda _: None,
            **OPTIONS,
        )


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"beside": ()}, ConversionError, "behind 'boxes' also read '.*': add --beside "),
        ({"logits": ()}, ModelError, "'found' of .* holds no float numbers"),
        ({"logits": (), "beside": ()}, NotAViTError, "where its trunk ends was not said: node"),
        ({"layout": "huggingface"}, UsageError, "no client of a --layout"),
    ],
    ids=["another way", "integers", "no joint", "layout"],
)
def test_a_tail_that_cannot_be_joined_is_refused(
    detector: Path, tmp_path: Path, changed: dict, kind: type, words: str
) -> None:
    options = {**OPTIONS, **changed}
    with pytest.raises(kind, match=words):
        vitedge.convert(
            detector,
            precisions="fp32",
            formats="onnx",
            output=tmp_path,
            warn=lambda _: None,
            **options,
        )


def test_the_tensors_that_a_refusal_names_are_enough(detector: Path, tmp_path: Path) -> None:
    def written(beside: Sequence[str]) -> Path:
        options = {**OPTIONS, "beside": tuple(beside)}
        made = vitedge.convert(
            detector,
            precisions="fp32",
            formats="onnx",
            output=tmp_path,
            warn=lambda _: None,
            **options,
        )
        return made.artifacts[0].path

    with pytest.raises(ConversionError) as refused:
        written(())
    path = written(str(refused.value).split(" --beside ")[1:])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    (found,) = session.run(["found"], {"pixels": pixels})
    np.testing.assert_array_equal(found, of_source(detector, pixels))


@pytest.mark.parametrize(
    ("source", "logits", "words"),
    [
        ("model.keras", ("x",), "works for ONNX files only"),
        ("model.onnx", (), "needs --logits NAME"),
        ("model.onnx", ("x",), "a classifier loses its softmax"),
    ],
)
def test_a_trunk_ends_in_a_tensor_that_is_read_as_it_is(
    source: str, logits: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        tail_of(Path(source), ImportOptions(logits=logits), random_network())
