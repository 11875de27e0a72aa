"""Tiny artefacts with metadata, made with the formats' own libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.bench_fakes import CLASSES, SIZE
from vitedge.artifacts.metadata import METADATA_KEY, Metadata, Source
from vitedge.images.preprocess import Preprocessing
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


def metadata(target: Format, precision: Precision, sha256: str = "0" * 64) -> Metadata:
    return Metadata(
        format=target,
        precision=precision,
        labels=("red", "green", "blue"),
        preprocessing=Preprocessing(size=(SIZE, SIZE)),
        source=Source("model.keras", sha256, "by name: ours"),
    )


def save_onnx(
    path: Path, precision: Precision = Precision.FP32, *, scale: float = 1.0, sha256: str = "0" * 64
) -> Path:
    """Writes an artefact that computes ``scale`` times the mean of each colour."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [onnx.numpy_helper.from_array(np.full(CLASSES, scale, np.float32), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    text = metadata(Format.ONNX, precision, sha256).to_json()
    helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(path))
    return path


def save_openvino(path: Path, precision: Precision = Precision.FP32) -> Path:
    """Writes an artefact that computes the mean of each colour."""
    import openvino
    from openvino import opset13

    pixels = opset13.parameter([1, SIZE, SIZE, 3], np.float32, name="pixels")
    means = opset13.reduce_mean(pixels, np.array([1, 2], np.int64), keep_dims=False)
    model = openvino.Model([opset13.result(means)], [pixels], "colours")
    model.set_rt_info(metadata(Format.OPENVINO, precision).to_json(), [METADATA_KEY])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path
