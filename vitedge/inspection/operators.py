"""Which operators an artefact consists of, and what numbers they compute with.

Read from the file itself, so that "int8" is what the graph says and not what a name promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vitedge.artifacts.metadata import format_of
from vitedge.errors import ModelError, missing_package
from vitedge.files.onnx_apart import infer_types
from vitedge.files.tflite_verifier import demand_sound
from vitedge.targets.formats import Format

# Where a format calls an element type otherwise than NumPy.
_NUMPY_NAMES = {
    "float": "float32",
    "double": "float64",
    "fp32": "float32",
    "fp16": "float16",
    "i4": "int4",
    "u4": "uint4",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
    "undefined": "-",
}


@dataclass(frozen=True, order=True)
class Operator:
    """One kind of operator with the types it is used with.

    Attributes:
        name: As the format calls it: ``FULLY_CONNECTED``, ``MatMulInteger``, ``FakeQuantize``.
        inputs: NumPy names of its inputs' element types in order, constants included; ``-``
            where one is left out.
        outputs: Element types of its outputs.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_operators(path: Path) -> Counter[Operator]:
    """Counts the operators of an artefact, whoever wrote it.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file is missing or cannot be read.
        UnavailableError: The format's package is not installed.
    """
    reader = {
        Format.TFLITE: _tflite_operators,
        Format.ONNX: _onnx_operators,
        Format.OPENVINO: _openvino_operators,
    }[format_of(path)]
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    return Counter(reader(path))


def _tflite_operators(path: Path) -> Iterator[Operator]:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing_package("ai-edge-litert", "tflite") from error
    demand_sound(path)
    model = schema.Model.GetRootAsModel(path.read_bytes(), 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    operators = [
        (graph, graph.Operators(index))
        for graph in graphs
        for index in range(graph.OperatorsLength())
    ]
    names = _names_of(schema.BuiltinOperator)
    types = _names_of(schema.TensorType)

    def type_of(graph: Any, tensor: int) -> str:
        return "-" if tensor < 0 else types[graph.Tensors(tensor).Type()].lower()

    for graph, operator in operators:
        code = codes[operator.OpcodeIndex()]
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = names.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
        yield Operator(
            name,
            tuple(type_of(graph, tensor) for tensor in _vector(operator.InputsAsNumpy())),
            tuple(type_of(graph, tensor) for tensor in _vector(operator.OutputsAsNumpy())),
        )


def _vector(numbers: Any) -> list[int]:
    """A vector of a flatbuffer, which is the number 0 where it is left out."""
    return [] if isinstance(numbers, int) else [int(number) for number in numbers]


def _names_of(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _onnx_operators(path: Path) -> Iterator[Operator]:
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
            return _numpy_name(onnx.TensorProto.DataType.Name(number))
        except ValueError:  # of a newer ONNX, or damaged
            return f"type {number}"

    for node in inferred.node:
        domain, kind = _text(node.domain), _text(node.op_type)
        name = f"{domain}.{kind}" if domain else kind
        inputs = tuple(type_of(each) for each in node.input)
        yield Operator(name, inputs, tuple(type_of(each) for each in node.output))


def _text(value: str | bytes) -> str:
    """A string of protobuf, which is bytes where it is no UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _openvino_operators(path: Path) -> Iterator[Operator]:
    try:
        network = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ModelError(f"'{path}' is truncated or not an OpenVINO file ({error})") from error
    for layer in network.iterfind("layers/layer"):
        if layer.get("type") in ("Const", "Parameter", "Result"):
            continue
        ports = {
            side: tuple(
                _numpy_name(port.get("precision") or "-") for port in layer.iterfind(f"{side}/port")
            )
            for side in ("input", "output")
        }
        yield Operator(layer.get("type") or "?", ports["input"], ports["output"])


def _numpy_name(element_type: str) -> str:
    return _NUMPY_NAMES.get(element_type.lower(), element_type.lower())
