"""ONNX graphs, mended: names, operators that ONNX lacks, weights in half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vitedge.converters.generic.einsum import einsums_as_products
from vitedge.errors import ConversionError

if TYPE_CHECKING:
    import onnx

_SMALLEST_HALVED = 64
"""Elements from which a constant is worth storing in half; below are scales and epsilons."""


def mended(model: onnx.ModelProto) -> onnx.ModelProto:
    """Makes what an exporter wrote a valid and fast graph, in place.

    Returns:
        The same object.

    Raises:
        ConversionError: An operator is left that ONNX does not have.
    """
    del model.graph.value_info[:]  # of another batch size, or of tensors that are gone
    _spell_out_erfc(model)
    einsums_as_products(model)
    drop_unused(model)
    _refuse_unknown(model)
    return model


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Gives tensors new names, in place, by their old ones."""
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _inner_graphs(node):
            rename(inner, names)


def _spell_out_erfc(model: onnx.ModelProto) -> None:
    """``erfc(x) = 1 - erf(x)``. Keras writes its exact GELU with erfc, which ONNX lacks."""
    import onnx

    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "Erfc" or node.domain:
            nodes.append(node)
            continue
        inner, one = f"{node.name} erf", f"{node.name} one"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), np.float32), one))
        nodes.append(onnx.helper.make_node("Erf", node.input, [inner], inner))
        nodes.append(onnx.helper.make_node("Sub", [one, inner], node.output, node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def drop_unused(model: onnx.ModelProto) -> None:
    """Drops nodes and constants that no output needs, in place."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    wanted: set[int] = set()
    read: set[str] = set()
    stack = [item.name for item in model.graph.output]
    while stack:
        name = stack.pop()
        if name in read:
            continue
        read.add(name)
        if name in producers and id(producers[name]) not in wanted:
            wanted.add(id(producers[name]))
            stack.extend(_reads(producers[name]))
    nodes = [node for node in model.graph.node if id(node) in wanted]
    constants = [item for item in model.graph.initializer if item.name in read]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)


def _reads(node: onnx.NodeProto) -> list[str]:
    """Tensors that a node reads, those of its inner graphs among them."""
    inner = [each for graph in _inner_graphs(node) for each in graph.node]
    return [*node.input, *(name for each in inner for name in _reads(each))]


def _inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _refuse_unknown(model: onnx.ModelProto) -> None:
    import onnx

    for node in model.graph.node:
        if not node.domain and not onnx.defs.has(node.op_type):
            raise ConversionError(
                f"ONNX has no operator {node.op_type} (node '{node.name}'); leave --format onnx out"
            )


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 constants are stored in half, and widened when a session is made."""
    import onnx

    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for item in halved.graph.initializer:
        if item.data_type != onnx.TensorProto.FLOAT or np.prod(item.dims) < _SMALLEST_HALVED:
            continue
        values = onnx.numpy_helper.to_array(item)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = item.name
        item.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name} half"))
        casts.append(
            onnx.helper.make_node("Cast", [item.name], [name], name, to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved
