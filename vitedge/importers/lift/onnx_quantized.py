"""Weights of ONNX graphs that are stored in fewer bits, read back to float exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx


def dequantize_weights(model: onnx.ModelProto) -> None:
    """Computes each ``DequantizeLinear`` of constants, in place."""
    import onnx

    constants = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    kept = []
    for node in model.graph.node:
        names = [name for name in node.input if name]
        if node.op_type != "DequantizeLinear" or any(name not in constants for name in names):
            kept.append(node)
            continue
        arrays = [onnx.numpy_helper.to_array(constants[name]) for name in names]
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        values = _dequantized(*arrays, **attributes)
        item = onnx.numpy_helper.from_array(values, node.output[0])
        model.graph.initializer.append(item)
        constants[item.name] = item
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _dequantized(
    x: npt.NDArray[Any],
    scale: npt.NDArray[Any],
    zero: npt.NDArray[Any] | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    **_: Any,
) -> npt.NDArray[np.float32]:
    """``(x - zero) * scale``, of a tensor, an axis, or blocks along it."""

    def spread(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        wide = values.astype(np.float32)
        if block_size:
            repeated = np.repeat(wide, block_size, axis)
            return repeated.take(np.arange(x.shape[axis]), axis)
        if wide.size == 1:
            return wide.reshape(())
        shape = [1] * x.ndim
        shape[axis] = -1
        return wide.reshape(shape)

    centred = x.astype(np.float32) - (spread(zero) if zero is not None else np.float32(0))
    return np.asarray(centred * spread(scale), np.float32)
