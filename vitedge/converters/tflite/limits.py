"""Limits of devices that run TFLite files.

Each rule was seen in the vendor's own compiler or driver; where that is here, it has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitedge.converters.tools import Rule
from vitedge.errors import missing_package
from vitedge.targets.fits import DeviceLimits

# Refused by LiteRT's GPU delegate, by NPU compilers, or left to the CPU by them.
_FOREIGN_TO_DELEGATES = {
    "NEG": "delegates have none; multiply by -1, or subtract the other way round",
    "GATHER_ND": "delegates have none",
    "BROADCAST_TO": "delegates have none; the arithmetic operators broadcast",
    "CUSTOM": "a custom operator",
}
_MOST_AXES = 4


def _refused(path: Path, *, all_integer: bool) -> Iterator[tuple[str, str, str]]:
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
            if not reason and all_integer:
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


LIMITS: Mapping[DeviceLimits, Rule] = MappingProxyType(
    {
        DeviceLimits.TFLITE_DELEGATE: partial(_refused, all_integer=False),
        DeviceLimits.ALL_INTEGER: partial(_refused, all_integer=True),
    }
)
