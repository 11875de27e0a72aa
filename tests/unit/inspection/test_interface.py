"""``inspect`` names every input and output, and what other clients miss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from openvino import opset13

from tests.contract.test_client_metadata import artefact
from vitedge.artifacts.contents import Port
from vitedge.inspection.description import inspect
from vitedge.report.shown import text_of
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision


@pytest.mark.parametrize("format_", all_formats())
def test_every_format_says_what_goes_in_and_comes_out(tmp_path: Path, format_: Format) -> None:
    path, _ = artefact(tmp_path, format_)
    found = inspect(path)
    (taken,), (given,) = found.inputs, found.outputs
    assert (taken.name, given.name) == ("pixels", "logits")
    assert (taken.shape, taken.dtype, taken.layout) == ((1, 32, 32, 3), "float32", "NHWC")
    assert (taken.low, taken.high, taken.meaning) == (0.0, 255.0, "raw RGB pixels")
    assert (given.shape, given.dtype, given.layout) == ((1, 10), "float32", "NC")
    assert (given.low, given.high) == (None, None)
    assert given.meaning == "logit of each class, before softmax"
    assert found.to_dict()["inputs"][0]["layout"] == "NHWC"


@pytest.mark.parametrize("format_", [Format.TFLITE, Format.ONNX])
def test_integers_have_their_scale(tmp_path: Path, format_: Format) -> None:
    path, _ = artefact(tmp_path, format_, Precision.W8A16)
    (given,) = inspect(path).outputs
    assert given.dtype == ("int16" if format_ is Format.TFLITE else "uint16")
    assert given.scale is not None
    assert given.scale > 0
    assert given.zero_point == (0 if format_ is Format.TFLITE else 32768)
    assert given.range_words.startswith("(integer - ")


def test_what_other_clients_miss_is_said(tmp_path: Path) -> None:
    path, _ = artefact(tmp_path, Format.TFLITE)
    assert inspect(path).clients == {
        "MediaPipe and the Android Task Library": "",
        "LiteRT.js": "",
    }
    path, _ = artefact(tmp_path, Format.TFLITE, channels=1)
    assert "one RGB picture" in inspect(path).clients["MediaPipe and the Android Task Library"]
    path, _ = artefact(tmp_path, Format.TFLITE, Precision.INT8_STATIC)
    assert "--probabilities" in inspect(path).clients["MediaPipe and the Android Task Library"]
    assert "convert with --int8" in inspect(path).clients["LiteRT.js"]
    path, _ = artefact(tmp_path, Format.ONNX)
    found = inspect(path).clients
    assert found["OpenVINO Model API"] == ""
    assert "--layout huggingface" in found["transformers.js and Optimum"]


def test_nothing_is_guessed_of_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, ("n", 3, 8, 8))]
        for name in "xy"
    ]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", *ends)), path)
    found = inspect(path)
    assert found.inputs == (Port("x", (-1, 3, 8, 8), "float16"),)
    assert found.outputs == (Port("y", (-1, 3, 8, 8), "float16"),)
    assert found.clients["OpenVINO Model API"].startswith("model_info")


def test_names_of_openvino_are_those_of_tensors(tmp_path: Path) -> None:
    taken = opset13.parameter((1, 4), np.float32, name="node")
    taken.output(0).get_tensor().set_names({"given"})
    made = opset13.relu(taken)
    made.output(0).get_tensor().set_names({"answer"})
    model = openvino.Model([made], [taken], "foreign")
    openvino.save_model(model, tmp_path / "foreign.xml", compress_to_fp16=False)
    found = inspect(tmp_path / "foreign.xml")
    assert found.inputs == (Port("given", (1, 4), "float32"),)
    assert found.outputs == (Port("answer", (1, 4), "float32"),)


def test_the_table_shows_them(tmp_path: Path) -> None:
    path, _ = artefact(tmp_path, Format.ONNX)
    lines = text_of(inspect(path).blocks(200), 200).splitlines()
    (pixels,) = [line.split() for line in lines if line.startswith("input ")]
    expected = "input pixels 1 x 32 x 32 x 3 float32 NHWC 0 to 255 raw RGB pixels"
    assert pixels == expected.split()
