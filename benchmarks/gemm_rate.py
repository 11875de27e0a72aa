"""One large matrix product as an artefact: what a runtime's multiplication gives on this machine.

It takes "pixels" and gives "logits" as any artefact does, so it is measured in turns with the
artefacts themselves, under the same weather.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import METADATA_KEY, Metadata, Source
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.images.preprocess import Preprocessing
from vitedge.quantize import IntegerWeight
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

# Inputs and outputs of half the caches of a small processor, thousands of products for each.
SIDE = 1024

OPERATIONS = 2 * SIDE**3
"""Multiplications and additions of one run."""


def write_gemm(target: Format, precision: Precision, folder: Path) -> Path:
    """Writes a ``(SIDE, SIDE) x (SIDE, SIDE)`` product with a constant right side.

    Args:
        target: Format of the artefact.
        precision: fp32, or int8 for integers on both sides.
        folder: Where to put ``gemm-PRECISION`` with the format's suffix.
    """
    path = folder / f"gemm-{precision}{target.suffix}"
    _WRITERS[target](right_side(), precision is Precision.INT8, path)
    return path


def right_side() -> npt.NDArray[np.int8]:
    """The constant that is multiplied with, ``(SIDE, SIDE)``."""
    return np.random.default_rng(0).integers(-127, 128, (SIDE, SIDE), np.int8)


def _onnx(weight: Any, integer: bool, path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    taken = TensorProto.UINT8 if integer else TensorProto.FLOAT
    constants = {
        "shape": np.asarray([SIDE, SIDE], np.int64),
        "weight": weight if integer else weight.astype(np.float32),
        "first": np.asarray([0], np.int64),
        "last": np.asarray([1], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["pixels", "shape"], ["rows"]),
        helper.make_node("MatMulInteger" if integer else "MatMul", ["rows", "weight"], ["product"]),
        helper.make_node("Slice", ["product", "first", "last", "first"], ["row"]),
        helper.make_node("Cast", ["row"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("pixels", taken, [1, SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, SIDE])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]), path
    )


def _tflite(weight: Any, integer: bool, path: Path) -> None:
    model = TFLiteModel()
    pixels = model.input("pixels", (1, SIDE, SIDE, 1))
    shape = model.constant("shape", np.asarray([SIDE, SIDE], np.int32))
    rows = model.operator("RESHAPE", [pixels, shape], (SIDE, SIDE), name="rows")
    if integer:
        constant = model.weight("weight", IntegerWeight(weight, np.full(SIDE, 0.01, np.float32)))
    else:
        constant = model.constant("weight", weight.T.astype(np.float32))
    product = model.operator(
        "FULLY_CONNECTED",
        [rows, constant, -1],
        (SIDE, SIDE),
        name="product",
        options={"table": "FullyConnectedOptions", "asymmetricQuantizeInputs": integer},
        version=12 if integer else 1,
    )
    first = model.constant("first", np.asarray([0, 0], np.int32))
    size = model.constant("size", np.asarray([1, SIDE], np.int32))
    logits = model.operator(
        "SLICE", [product, first, size], (1, SIDE), name="logits", options={"table": "SliceOptions"}
    )
    precision = Precision.INT8 if integer else Precision.FP32
    path.write_bytes(
        model.to_bytes({"logits": logits}, "gemm", _metadata(Format.TFLITE, precision))
    )


def _openvino(weight: Any, integer: bool, path: Path) -> None:
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter([1, SIDE, SIDE, 1], np.float32, name="pixels")
    rows = ops.reshape(pixels, np.asarray([SIDE, SIDE]), False)
    constant = ops.constant(weight.T if integer else weight.T.astype(np.float32))
    if integer:
        ends = [np.float32(0), np.float32(255)]
        rows = ops.fake_quantize(rows, *ends, *ends, 256)
        constant = ops.multiply(ops.convert(constant, np.float32), np.full((SIDE, 1), 0.01, "f4"))
    product = ops.matmul(rows, constant, False, True)
    one, none = np.asarray([1]), np.asarray([0])
    logits = ops.slice(product, none, one, one, none)
    model = openvino.Model([ops.result(logits)], [pixels], "gemm")
    # By this our runtime knows that float32 was asked for, and not bfloat16.
    precision = Precision.INT8 if integer else Precision.FP32
    model.set_rt_info(_metadata(Format.OPENVINO, precision).to_json(), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)


def _metadata(target: Format, precision: Precision) -> Metadata:
    return Metadata(
        format=target,
        precision=precision,
        labels=(),
        preprocessing=Preprocessing((SIDE, SIDE), 1, mean=(0.0,), std=(1.0,)),
        source=Source("gemm", "", "written here"),
    )


_WRITERS: dict[Format, Callable[[Any, bool, Path], None]] = {
    Format.TFLITE: _tflite,
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
}
