"""Models that are quantized already.

Their activations are rounded as well, so no float network computes the same, and what would be
made of them is an 8-bit model by another name. They are refused; the float model that they were
made of converts better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError

_ROUNDING = re.compile(
    r"_?(?:FakeQuant|Quantize|Dequantize|UniformQuantize|UniformDequantize|DynamicQuantize"
    r"|QLinear|QAttention|QGemm|QMoE|QOrdered|MatMulInteger|ConvInteger|DequantizeLinear)"
)
_QUANTIZED_CLASSES = re.compile(
    r"(?:Quantized|Int4|Int8|GPTQ|AWQ)\w*DTypePolicy|(?:TensorFlowModelOptimization>)?Quantize\w+"
)
_QUANTIZED_POLICIES = re.compile(r"(?:int4|int8|float8|gptq|awq)(?:/[\w/-]+)?_from_\w+")
"""Keras's names of them: of classes, and of policies in a word, as ``int8_from_float32``."""

_CONTRACTIONS = re.compile(r"MatMul|BatchMatMul|Einsum|Conv|XlaDot|DepthwiseConv")
_INTEGERS = ("int8", "uint8", "qint8", "quint8", "int16", "int4", "uint4", "int32")


def refuse_quantized_operations(operations: Iterable[tuple[str, str, Sequence[str]]]) -> None:
    """Refuses a graph that rounds what it computes to integers, or computes in them.

    Args:
        operations: Type, name and the element types of the inputs of each operator.

    Raises:
        ModelError: The graph does so; the message names the first such operator.
    """
    for kind, name, inputs in operations:
        in_integers = _CONTRACTIONS.match(kind) and len(inputs) > 1
        if _ROUNDING.match(kind) or (in_integers and all(each in _INTEGERS for each in inputs[:2])):
            raise ModelError(
                f"the model is quantized already (operator {kind}, '{name}'): its rounding would "
                "stay in everything made of it; give the float model that it was made of"
            )


def refuse_quantized_layers(path: Path, config: Mapping[str, Any]) -> None:
    """Refuses a model that Keras's own ``quantize`` made, or TensorFlow's toolkit, by its config.

    Raises:
        ModelError: The model is quantized; the message names its kind and a layer.
    """
    stack: list[tuple[str, Any]] = [("", config)]
    while stack:
        layer, value = stack.pop()
        if isinstance(value, list):
            stack += [(layer, each) for each in value]
        if not isinstance(value, Mapping):
            continue
        inner = value.get("config")
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            layer = inner["name"] if "dtype" in inner else layer
        kind, dtype = str(value.get("class_name")), str(value.get("dtype"))
        found = _QUANTIZED_CLASSES.fullmatch(kind) or _QUANTIZED_POLICIES.fullmatch(dtype)
        if found is not None:
            raise ModelError(
                f"'{path}' is quantized already ({found[0][:40]}, layer '{layer[:80]}'): its "
                "rounding would stay in everything made of it; give the float model that it was "
                "made of"
            )
        stack += [(layer, each) for each in value.values()]
