"""What goes into an artefact and comes out of it, and which other clients can use it so.

Read from the file itself, whoever wrote it. What numbers mean is known of our own files only: there
are no guesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vitedge.artifacts.metadata import (
    CHANNELS_FIRST_PIXELS,
    LOGITS_SCALE_KEY,
    LOGITS_ZERO_POINT_KEY,
    Metadata,
    format_of,
)
from vitedge.errors import ModelError, missing_package
from vitedge.files.flatbuffer import Table
from vitedge.files.tflite_verifier import open_verified
from vitedge.targets.formats import Format
from vitedge.targets.scores import Scores

_MEANINGS = {
    Scores.LOGITS: "logit of each class, before softmax",
    Scores.PROBABILITIES: "probability of each class",
    "features": "what the head reads",
    "pooler_output": "what the head reads",
}

# TensorType of TFLite's schema.fbs, by number, in NumPy's words.
_TFLITE_TYPES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64"),
    *("int8", "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16"),
    *("int4", "bfloat16", "int2", "uint4", "float8_e4m3fn", "float8_e5m2"),
)
_MODEL_GRAPHS, _MODEL_METADATA, _MODEL_SIGNATURES = 2, 6, 7
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_GRAPH = 0, 1, 4
_ENTRY_NAME, _ENTRY_TENSOR = 0, 1
_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_SHAPE, _TYPE, _NAME, _QUANTIZATION, _SIGNATURE_SHAPE = 0, 1, 3, 4, 7
_SCALE, _ZERO_POINT = 2, 3

_OPENVINO_TYPES = {"fp32": "float32", "fp16": "float16", "fp64": "float64", "boolean": "bool"}
_OPENVINO_TYPES |= {f"i{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)}
_OPENVINO_TYPES |= {f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)}

_TFLITE_METADATA, _MODEL_INFO = "TFLITE_METADATA", "model_info"


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: Its name in the file.
        shape: Its sizes; -1 where one is not fixed.
        dtype: NumPy's name of its type.
        layout: What the axes are, such as ``NHWC``; empty where the file does not say.
        low: The smallest number that goes in or comes out, or None where nothing bounds it.
        high: The largest one.
        scale: What one step of an integer is worth, or None where it is no quantized integer.
        zero_point: The integer that means 0.
        meaning: What the numbers are; empty where the file does not say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""
    low: float | None = None
    high: float | None = None
    scale: float | None = None
    zero_point: int | None = None
    meaning: str = ""

    @property
    def range_words(self) -> str:
        """Its range, and how integers become numbers of it."""
        words = "" if self.low is None or self.high is None else f"{self.low:g} to {self.high:g}"
        if self.scale is None or (self.scale == 1 and not self.zero_point):
            return words
        return f"{words} (integer - {self.zero_point}) x {self.scale:.6g}".strip()


@dataclass(frozen=True)
class Interface:
    """All inputs and outputs of a file.

    Attributes:
        inputs: In the file's order.
        outputs: In the file's order.
        entries: Names of the metadata entries that the file has.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    entries: frozenset[str]


def read_interface(path: Path, metadata: Metadata | None) -> Interface:
    """Reads the inputs and outputs of an artefact.

    Args:
        path: The artefact.
        metadata: What it says of itself, by which its numbers have a meaning.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file cannot be read.
        UnavailableError: The format's package is not installed.
    """
    reader = {
        Format.TFLITE: _read_tflite,
        Format.ONNX: _read_onnx,
        Format.OPENVINO: _read_openvino,
    }[format_of(path)]
    found = reader(path)
    return found if metadata is None else _explained(found, metadata)


def _explained(found: Interface, metadata: Metadata) -> Interface:
    channels = "RGB" if metadata.preprocessing.channels == 3 else "grey"
    inputs = tuple(
        replace(
            port,
            layout="NCHW" if port.name == CHANNELS_FIRST_PIXELS else "NHWC",
            low=0.0,
            high=255.0,
            meaning=f"raw {channels} pixels",
        )
        for port in found.inputs
    )
    outputs = []
    for number, port in enumerate(found.outputs):
        kind = str(metadata.scores) if number == 0 else port.name
        is_share = kind == Scores.PROBABILITIES
        outputs.append(
            replace(
                port,
                layout="NC",
                low=0.0 if is_share else None,
                high=1.0 if is_share else None,
                meaning=_MEANINGS.get(kind, ""),
            )
        )
    return replace(found, inputs=inputs, outputs=tuple(outputs))


def _read_tflite(path: Path) -> Interface:
    try:
        with open_verified(path) as root:
            graph = root.tables(_MODEL_GRAPHS)[0]
            tensors = graph.tables(_TENSORS)
            names = _signature_names(root)
            ends = [
                tuple(
                    _tflite_port(tensors[index], names.get(index))
                    for index in graph.numbers(field, "i")
                )
                for field in (_GRAPH_INPUTS, _GRAPH_OUTPUTS)
            ]
            entries = [each.content(0) for each in root.tables(_MODEL_METADATA)]
    except OSError as error:
        raise ModelError(f"cannot read '{path}' ({error.strerror or error})") from error
    return Interface(ends[0], ends[1], frozenset(each.decode(errors="replace") for each in entries))


def _signature_names(root: Table) -> dict[int, str]:
    """What the signatures of the first graph call its tensors, where there are signatures."""
    return {
        entry.number(_ENTRY_TENSOR, "I"): entry.content(_ENTRY_NAME).decode(errors="replace")
        for signature in root.tables(_MODEL_SIGNATURES)
        if signature.number(_SIGNATURE_GRAPH, "I") == 0
        for field in (_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS)
        for entry in signature.tables(field)
    }


def _tflite_port(tensor: Table, name: str | None) -> Port:
    port = Port(
        name or tensor.content(_NAME).decode(errors="replace"),
        tensor.numbers(_SIGNATURE_SHAPE, "i") or tensor.numbers(_SHAPE, "i"),
        _TFLITE_TYPES[tensor.number(_TYPE, "b")],
    )
    quantization = tensor.table(_QUANTIZATION)
    if quantization is None or quantization.length(_SCALE) != 1:
        return port
    (scale,), zeros = quantization.numbers(_SCALE, "f"), quantization.numbers(_ZERO_POINT, "q")
    return replace(port, scale=scale, zero_point=int(zeros[0]) if zeros else 0)


def _read_onnx(path: Path) -> Interface:
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "convert") from error
    try:
        model = onnx.load(path, load_external_data=False)
        held = {each.name for each in model.graph.initializer}
        props = {each.key: each.value for each in model.metadata_props}
        inputs = tuple(_onnx_port(each) for each in model.graph.input if each.name not in held)
        outputs = tuple(map(_onnx_port, model.graph.output))
        if LOGITS_SCALE_KEY in props and outputs:
            scale, zero = float(props[LOGITS_SCALE_KEY]), int(props[LOGITS_ZERO_POINT_KEY])
            outputs = (replace(outputs[0], scale=scale, zero_point=zero), *outputs[1:])
    except Exception as error:  # onnx and protobuf raise errors without a common base
        raise ModelError(f"'{path}' is truncated or not an ONNX file") from error
    return Interface(inputs, outputs, frozenset(key.partition(" ")[0] for key in props))


def _onnx_port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(
        int(each.dim_value) if each.HasField("dim_value") else -1 for each in tensor.shape.dim
    )
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Port(value.name, shape, {"float": "float32", "double": "float64"}.get(dtype, dtype))


def _read_openvino(path: Path) -> Interface:
    try:
        network = ElementTree.parse(path).getroot()
        inputs = tuple(_parameters(network))
        outputs = tuple(_results(network))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ModelError(f"'{path}' is truncated or not an OpenVINO file ({error})") from error
    entries = frozenset(each.tag for each in network.iterfind("rt_info/*"))
    return Interface(inputs, outputs, entries)


def _parameters(network: ElementTree.Element) -> Iterator[Port]:
    for layer in network.iterfind("layers/layer[@type='Parameter']"):
        port = layer.find("output/port")
        if port is not None:
            yield _openvino_port(port, port.get("names") or layer.get("name") or "")


def _results(network: ElementTree.Element) -> Iterator[Port]:
    """What each result reads: tensors are named where they are made."""
    ports: Mapping[tuple[str | None, str | None], ElementTree.Element] = {
        (layer.get("id"), port.get("id")): port
        for layer in network.iterfind("layers/layer")
        for port in layer.iterfind("output/port")
    }
    edges = {
        edge.get("to-layer"): (edge.get("from-layer"), edge.get("from-port"))
        for edge in network.iterfind("edges/edge")
    }
    for layer in network.iterfind("layers/layer[@type='Result']"):
        port = ports[edges[layer.get("id")]]
        names = (port.get("names") or "").split(",")
        own = layer.get("name") or ""
        yield _openvino_port(port, own if own in names else names[0] or own)


def _openvino_port(port: ElementTree.Element, name: str) -> Port:
    shape = tuple(int(each.text or "-1") for each in port.iterfind("dim"))
    dtype = (port.get("precision") or "").lower()
    return Port(name, shape, _OPENVINO_TYPES.get(dtype, dtype))


def client_needs(format_: Format, found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """What a file needs so that each other client of its format can use it.

    Returns:
        For each client in words what to do; empty where it takes the file as it is.
    """
    if format_ is Format.TFLITE:
        return {"MediaPipe and the Android Task Library": _for_mediapipe(found, metadata)}
    needs = {"OpenVINO Model API": _for_model_api(found)}
    if format_ is Format.ONNX:
        given = [port.name for port in found.inputs] == [CHANNELS_FIRST_PIXELS]
        missing = "" if given else "other names and configs: convert with --layout huggingface"
        needs["transformers.js and Optimum"] = missing
    return needs


def _for_mediapipe(found: Interface, metadata: Metadata | None) -> str:
    if _TFLITE_METADATA not in found.entries:
        again = "" if metadata is None else ": convert the model again"
        return f"TFLite Metadata{again}"
    shape = found.inputs[0].shape if len(found.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        return f"one input of one RGB picture, not {list(shape)}"
    if found.inputs[0].dtype not in ("float32", "uint8"):
        return f"pixels as float32 or uint8, not {found.inputs[0].dtype}: convert the model again"
    for port in found.outputs:
        if port.dtype not in ("float32", "uint8"):
            return f"scores as float32 or uint8, not {port.dtype}: convert with --probabilities"
    return ""


def _for_model_api(found: Interface) -> str:
    if _MODEL_INFO not in found.entries:
        return "model_info: convert the model again"
    if len(found.inputs) != 1 or found.inputs[0].shape[:1] != (1,):
        return "one input of one picture: convert with --batch 1"
    return ""
