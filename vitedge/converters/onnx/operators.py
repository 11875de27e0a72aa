"""The operators of an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vitedge.artifacts.contents import Operator
from vitedge.errors import ModelError, missing_package
from vitedge.files.onnx_apart import infer_types

# Where ONNX calls an element type otherwise than NumPy.
_NUMPY_NAMES = {"float": "float32", "double": "float64", "undefined": "-"}


def read_operators(path: Path) -> Iterator[Operator]:
    """See ``FormatTools``."""
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "convert") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # onnx and protobuf raise errors without a common base
        raise ModelError(f"'{path}' is truncated or not an ONNX file") from error
    try:
        inferred = infer_types(model)
    except ModelError as error:
        raise ModelError(f"'{path}' is truncated or not an ONNX file: {error}") from error
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type

    def type_of(name: str) -> str:
        if not name:
            return "-"
        number = types.get(name, 0)
        try:
            kind: str = onnx.TensorProto.DataType.Name(number).lower()
        except ValueError:  # of a newer ONNX, or damaged
            return f"type {number}"
        return _NUMPY_NAMES.get(kind, kind)

    for node in inferred.node:
        domain, kind = _text(node.domain), _text(node.op_type)
        name = f"{domain}.{kind}" if domain else kind
        inputs = tuple(type_of(each) for each in node.input)
        yield Operator(name, inputs, tuple(type_of(each) for each in node.output))


def _text(value: str | bytes) -> str:
    """A string of protobuf, which is bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
