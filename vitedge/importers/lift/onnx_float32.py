"""ONNX graphs of other floats, computed in float32.

Weights in half, bfloat16 and double are the same numbers in float32 (those of double rounded), and
artefacts round where their own precision says. See ``tensorflow_float32``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def widen(model: onnx.ModelProto) -> bool:
    """Makes every float of a model float32, in place.

    Returns:
        Whether there was another one.
    """
    found = _widen_graph(model.graph)
    if found:
        del model.graph.value_info[:]
    return found


def _widen_graph(graph: onnx.GraphProto) -> bool:
    import onnx

    found = False
    for item in graph.initializer:
        found |= _widen_tensor(item)
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if kind.elem_type in _others():
            kind.elem_type, found = onnx.TensorProto.FLOAT, True
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found |= _widen_tensor(attribute.t)
            if attribute.HasField("g"):
                found |= _widen_graph(attribute.g)
            # Cast's `to`; RandomNormal and its like call it `dtype`.
            if attribute.name in ("to", "dtype") and attribute.i in _others():
                attribute.i, found = onnx.TensorProto.FLOAT, True
    return found


def _others() -> tuple[int, ...]:
    from onnx import TensorProto

    return (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def _widen_tensor(item: onnx.TensorProto) -> bool:
    import onnx

    if item.data_type not in _others():
        return False
    with np.errstate(over="ignore"):  # masks of double become infinite
        array = onnx.numpy_helper.to_array(item).astype(np.float32)
    item.CopyFrom(onnx.numpy_helper.from_array(array, item.name))
    return True
