"""TensorFlow graphs of other floats, computed in float32.

Under Keras's policies ``mixed_float16``, ``mixed_bfloat16``, ``float16`` and ``bfloat16`` a model
rounds in every layer. What it was trained to compute is what it computes without: its weights in
float32 are the same numbers, and artefacts round where their own precision says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ANY_TYPE = ("Identity", "Transpose", "Reshape", "Squeeze", "ExpandDims", "StopGradient")
_SHAPES = ("Shape", "Rank", "Size")


def is_other_float(kind: int) -> bool:
    """Whether a ``DataType`` is half, bfloat16 or double."""
    from tensorflow.core.framework import types_pb2

    return kind in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_DOUBLE)


def widened(definition: Any) -> Any:
    """A ``GraphDef`` whose other floats are float32, changed in place.

    Returns:
        The same object. Variables are not part of it; whoever feeds their values converts them.
    """
    for function in definition.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = _widened(argument.type)
    nodes = [definition.node, *(each.node_def for each in definition.library.function)]
    for node in (each for part in nodes for each in part):
        for value in node.attr.values():
            _widen_attribute(value)
    return definition


def taking_floats(definition: Any, image: str) -> Any:
    """Makes an integer image float32, in place, where the graph casts it to floats anyway.

    Args:
        definition: A ``GraphDef`` in topological order.
        image: The name of the image's node.

    Returns:
        The same object.
    """
    from tensorflow.core.framework import types_pb2

    moved = {image}
    changed = [(node, "dtype") for node in definition.node if node.name == image]
    for node in definition.node:
        first, *rest = [name.partition(":")[0].lstrip("^") for name in node.input] or [""]
        if moved.isdisjoint([first, *rest]):
            continue
        if node.op == "Cast":
            changed.append((node, "SrcT"))
        elif node.op in _ANY_TYPE and first in moved and moved.isdisjoint(rest):
            changed.append((node, "T"))
            moved.add(node.name)
        elif node.op not in _SHAPES:
            return definition
    for node, attribute in changed:
        node.attr[attribute].type = types_pb2.DT_FLOAT
    for node in definition.node:
        if node.op in _SHAPES and node.input and node.input[0].partition(":")[0] in moved:
            node.attr["T"].type = types_pb2.DT_FLOAT
    return definition


def _widened(kind: int) -> int:
    from tensorflow.core.framework import types_pb2

    return types_pb2.DT_FLOAT if is_other_float(kind) else kind


def _widen_attribute(value: Any) -> None:
    import tensorflow as tf

    match value.WhichOneof("value"):
        case "type":
            value.type = _widened(value.type)
        case "list":
            value.list.type[:] = [_widened(kind) for kind in value.list.type]
        case "tensor" if is_other_float(value.tensor.dtype):
            with np.errstate(over="ignore"):  # masks of double become infinite
                array = np.asarray(tf.make_ndarray(value.tensor), np.float32)
            value.tensor.CopyFrom(tf.make_tensor_proto(array))
