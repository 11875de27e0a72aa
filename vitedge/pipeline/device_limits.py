"""What a kind of device cannot run, found in the file: for devices that are not here to be asked.

Each rule was seen in the vendor's own compiler or driver; where that is here, it has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import format_of
from vitedge.errors import UsageError, missing_package
from vitedge.targets.fits import DeviceLimits
from vitedge.targets.formats import Format

# Refused by LiteRT's GPU delegate, by NPU compilers, or left to the CPU by them.
_FOREIGN_TO_DELEGATES = {
    "NEG": "delegates have none; multiply by -1, or subtract the other way round",
    "GATHER_ND": "delegates have none",
    "BROADCAST_TO": "delegates have none; the arithmetic operators broadcast",
    "CUSTOM": "a custom operator",
}
_MOST_AXES = 4

_FOREIGN_TO_HTP = {
    "Erf": "stays on the CPU and splits the graph; use Gelu",
    "DynamicQuantizeLinear": "its ranges come when it runs; the HTP needs them before",
    "MatMulInteger": "a product of dynamic integers; the HTP takes QuantizeLinear and MatMul",
}


def refusals(path: Path, limits: DeviceLimits) -> tuple[str, ...]:
    """The nodes that a kind of device cannot run: operator, name and reason.

    Args:
        path: A TFLite or ONNX artefact.
        limits: The kind.

    Raises:
        UnavailableError: The format's package is not installed.
        UsageError: Nothing is known of what such devices cannot run of the file's format.
    """
    if limits is DeviceLimits.NONE:
        return ()
    match (format_of(path), limits):
        case (Format.ONNX, DeviceLimits.HTP):
            found = _in_onnx(path)
        case (Format.TFLITE, DeviceLimits.TFLITE_DELEGATE | DeviceLimits.ALL_INTEGER):
            found = _in_tflite(path, limits)
        case (unknown, _):
            raise UsageError(f"'{path}': what {limits} devices run of {unknown} files is not known")
    return tuple(f"{code} '{name}': {reason}" for code, name, reason in found)


def _in_tflite(path: Path, limits: DeviceLimits) -> Iterator[tuple[str, str, str]]:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing_package("ai-edge-litert", "tflite") from error
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
            tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
            output = graph.tensors[operator.outputs[0]]
            reason = _delegate_reason(code, operator, [*tensors, output])
            if not reason and limits is DeviceLimits.ALL_INTEGER:
                floats = [each for each in (*tensors, output) if _is_float(each, schema)]
                reason = f"reads or writes float '{floats[0].name.decode()}'" if floats else ""
            if reason:
                yield code, output.name.decode(), reason


def _delegate_reason(code: str, operator: Any, tensors: list[Any]) -> str:
    if code in _FOREIGN_TO_DELEGATES:
        return _FOREIGN_TO_DELEGATES[code]
    if code == "STRIDED_SLICE" and operator.builtinOptions.shrinkAxisMask:
        return "drops an axis; slice, then reshape"
    if code == "BATCH_MATMUL" and operator.inputs[0] == operator.inputs[1]:
        return "has one tensor on both inputs, on which LiteRT's GPU accelerator aborts"
    axes = max(0 if tensor.shape is None else len(tensor.shape) for tensor in tensors)
    return f"has {axes} axes, {_MOST_AXES} are the most" if axes > _MOST_AXES else ""


def _is_float(tensor: Any, schema: Any) -> bool:
    kinds = schema.TensorType
    return tensor.type in (kinds.FLOAT32, kinds.FLOAT16, kinds.FLOAT64)


def _in_onnx(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "convert") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    is_quantized = any(node.op_type == "QuantizeLinear" for node in graph.node)
    for node in graph.node:
        name = node.name or node.output[0]
        if node.op_type in _FOREIGN_TO_HTP:
            yield node.op_type, name, _FOREIGN_TO_HTP[node.op_type]
        elif is_quantized and node.op_type in ("Sqrt", "Pow"):
            yield node.op_type, name, "a norm in parts, which the HTP gets wrong in integers"
