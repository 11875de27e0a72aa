"""The inputs and outputs of a TFLite file, and who else takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitedge.artifacts.contents import Interface, Port
from vitedge.artifacts.metadata import Metadata
from vitedge.converters.tflite.metadata import ENTRY
from vitedge.errors import ModelError
from vitedge.files.flatbuffer import Table
from vitedge.files.tflite_verifier import open_verified
from vitedge.network.tasks import Task

# TensorType of TFLite's schema.fbs, by number, in NumPy's words.
_TYPES = (
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


def read_interface(path: Path) -> Interface:
    """See ``FormatTools``."""
    try:
        with open_verified(path) as root:
            graph = root.tables(_MODEL_GRAPHS)[0]
            tensors = graph.tables(_TENSORS)
            names = _signature_names(root)
            ends = [
                tuple(
                    _port(tensors[index], names.get(index)) for index in graph.numbers(field, "i")
                )
                for field in (_GRAPH_INPUTS, _GRAPH_OUTPUTS)
            ]
            entries = [each.content(0) for each in root.tables(_MODEL_METADATA)]
    except OSError as error:
        raise ModelError(f"cannot read '{path}' ({error.strerror or error})") from error
    return Interface(ends[0], ends[1], frozenset(each.decode(errors="replace") for each in entries))


def _signature_names(root: Table) -> dict[int, str]:
    """The names of tensors in the signatures of the first graph, where there are signatures."""
    return {
        entry.number(_ENTRY_TENSOR, "I"): entry.content(_ENTRY_NAME).decode(errors="replace")
        for signature in root.tables(_MODEL_SIGNATURES)
        if signature.number(_SIGNATURE_GRAPH, "I") == 0
        for field in (_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS)
        for entry in signature.tables(field)
    }


def _port(tensor: Table, name: str | None) -> Port:
    port = Port(
        name or tensor.content(_NAME).decode(errors="replace"),
        tensor.numbers(_SIGNATURE_SHAPE, "i") or tensor.numbers(_SHAPE, "i"),
        _TYPES[tensor.number(_TYPE, "b")],
    )
    quantization = tensor.table(_QUANTIZATION)
    if quantization is None or quantization.length(_SCALE) != 1:
        return port
    (scale,), zeros = quantization.numbers(_SCALE, "f"), quantization.numbers(_ZERO_POINT, "q")
    return replace(port, scale=scale, zero_point=int(zeros[0]) if zeros else 0)


def client_needs(found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """See ``FormatTools``."""
    return {
        "MediaPipe and the Android Task Library": _for_mediapipe(found, metadata),
        "LiteRT.js": _for_litert_js(found),
    }


def _for_litert_js(found: Interface) -> str:
    for port in found.inputs:
        if port.dtype not in ("float32", "uint8"):
            return f"pixels as float32 or uint8, not {port.dtype}: convert the model again"
    for port in found.outputs:  # it reads bytes, but does not tell their scale
        if port.dtype != "float32":
            return f"outputs as float32, not {port.dtype}: convert with --int8"
    return ""


def _for_mediapipe(found: Interface, metadata: Metadata | None) -> str:
    if ENTRY not in found.entries:
        again = "" if metadata is None else ": convert the model again"
        return f"TFLite Metadata{again}"
    if metadata is not None and metadata.task in (Task.NUMBERS, Task.MAP):
        return f"a model that names images or embeds them, not {metadata.task.words}"
    shape = found.inputs[0].shape if len(found.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        return f"one input of one RGB picture, not {list(shape)}"
    if found.inputs[0].dtype not in ("float32", "uint8"):
        return f"pixels as float32 or uint8, not {found.inputs[0].dtype}: convert the model again"
    for port in found.outputs:
        if port.dtype not in ("float32", "uint8"):
            return f"scores as float32 or uint8, not {port.dtype}: convert with --probabilities"
    return ""
