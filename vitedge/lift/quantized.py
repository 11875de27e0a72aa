"""Models that are quantized already.

Their activations are rounded as well, so no float network computes the same, and what would be
made of them is an 8-bit model by another name. They are refused; the float model that they were
made of converts better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vitedge.errors import ModelError

_ROUNDING = re.compile(
    r"_?(?:FakeQuant|Quantize|Dequantize|UniformQuantize|UniformDequantize|DynamicQuantize"
    r"|QLinear|QAttention|QGemm|QMoE|QOrdered|MatMulInteger|ConvInteger|DequantizeLinear)"
)
_CONTRACTIONS = re.compile(r"MatMul|BatchMatMul|Einsum|Conv|XlaDot|DepthwiseConv")
_INTEGERS = ("int8", "uint8", "qint8", "quint8", "int16", "int4", "uint4", "int32")


def refuse_quantized_operations(operations: Iterable[tuple[str, str, Sequence[str]]]) -> None:
    """Refuses a graph that rounds what it computes to integers, or computes in them.

    Args:
        operations: Type, name and the element types of the inputs of each operator.

    Raises:
        ModelError: It does; the message names the first such operator.
    """
    for kind, name, inputs in operations:
        in_integers = _CONTRACTIONS.match(kind) and len(inputs) > 1
        if _ROUNDING.match(kind) or (in_integers and all(each in _INTEGERS for each in inputs[:2])):
            raise ModelError(
                f"the model is quantized already (operator {kind}, '{name}'): its rounding would "
                "stay in everything made of it; give the float model that it was made of"
            )
