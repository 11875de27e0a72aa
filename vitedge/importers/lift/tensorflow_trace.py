"""TensorFlow models as flat graphs whose variables stay outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.importers.lift.quantized import refuse_quantized_operations
from vitedge.importers.lift.tensorflow_augmentation import remove_augmentation
from vitedge.importers.lift.tensorflow_float32 import is_other_float, taking_floats, widened

_CALLS = frozenset(
    [
        "PartitionedCall",
        "StatefulPartitionedCall",
        "If",
        "StatelessIf",
        "While",
        "StatelessWhile",
    ]
)

_READS = frozenset(["ReadVariableOp"])


@dataclass(frozen=True)
class Traced:
    """A flat graph.

    Attributes:
        operations: The ``tf.Graph``.
        image: The tensor of the images.
        output: The tensor of the logits.
        batch: The number of images that the logits are for, or None when it is free.
        variables: Values from outside the graph, by the tensors that read them.
        is_changed: Augmentation or dropout that was switched on was taken out of it.
    """

    operations: Any
    image: str
    output: str
    batch: int | None
    variables: Mapping[str, Any]
    is_changed: bool = False


def trace(model: Callable[[Any], Any], specification: Any) -> Traced:
    """Traces a model; the functions that it calls are inlined."""
    import tensorflow as tf

    traced = tf.compat.v1.wrap_function(model, [specification])
    if len(traced.outputs) != 1:
        raise ModelError(f"the model has {len(traced.outputs)} outputs; one, the logits, is needed")
    if _is_flat(traced.graph):
        return _as_traced(traced, traced.graph)
    inlined, is_changed = _inlined(traced)
    if _is_flat(inlined):
        return replace(_as_traced(traced, inlined), is_changed=is_changed)
    frozen = _frozen(traced, specification)
    return _as_traced(frozen, frozen.graph)


def _is_flat(graph: Any) -> bool:
    """Whether it calls no function, and reads variables only as a whole."""
    return all(
        operation.type not in _CALLS
        and (operation.type in (*_READS, "Identity") or not _takes_resources(operation))
        for operation in graph.get_operations()
    )


def _takes_resources(operation: Any) -> bool:
    return any(tensor.dtype.name == "resource" for tensor in operation.inputs)


def _inlined(traced: Any) -> tuple[Any, bool]:
    """A graph of the same tensors without calls; its variables stay outside of it.

    Returns:
        The graph, and whether something that is drawn at random was taken out of it.
    """
    import tensorflow as tf

    # TensorFlow's own first step of freezing variables, which has no public name.
    from tensorflow.python.framework.convert_to_constants import _run_inline_graph_optimization

    opened = tf.Graph()
    definition = traced.graph.as_graph_def()
    _allow_inlining(definition)
    with opened.as_default():
        tf.import_graph_def(definition, name="")
    definition = _run_inline_graph_optimization(
        SimpleNamespace(graph=opened, inputs=traced.inputs, outputs=traced.outputs),
        lower_control_flow=False,
        aggressive_inlining=True,
    )
    _drop_waiting(definition)
    _read_whole(definition)
    is_changed = remove_augmentation(definition)
    # What only keeps state, as the seeds of augmentation do, makes none of the outputs.
    outputs = [tensor.op.name for tensor in traced.outputs]
    definition = _needed(definition, outputs)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    return graph, is_changed


def _read_whole(definition: Any) -> None:
    """Lets rows be taken of variables that are read whole, as of positions that are embedded."""
    import tensorflow as tf

    for node in [each for each in definition.node if each.op == "ResourceGather"]:
        variable, rows = node.input
        kinds = {name: node.attr[name].type for name in ("dtype", "Tindices")}
        batch_dims = node.attr["batch_dims"].i
        read = definition.node.add(name=f"{node.name}/read", op="ReadVariableOp", input=[variable])
        read.attr["dtype"].type = kinds["dtype"]
        axis = definition.node.add(name=f"{node.name}/axis", op="Const")
        axis.attr["dtype"].type = tf.int32.as_datatype_enum
        axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch_dims, tf.int32))
        node.op = "GatherV2"
        node.input[:] = [read.name, rows, axis.name]
        node.attr.clear()
        node.attr["Tparams"].type = kinds["dtype"]
        node.attr["Tindices"].type = kinds["Tindices"]
        node.attr["Taxis"].type = tf.int32.as_datatype_enum
        node.attr["batch_dims"].i = batch_dims


def _allow_inlining(definition: Any) -> None:
    """Lets functions be opened that were meant for XLA: Keras's convolutions in groups."""
    library = definition.library.function
    inner = (node for function in library for node in function.node_def)
    for item in (*definition.node, *library, *inner):
        for name in ("_XlaMustCompile", "_noinline"):
            item.attr.pop(name, None)


def _drop_waiting(definition: Any) -> None:
    """Lets nothing wait for what it does not read.

    A call waits for all that its function reads, which a part of the graph is not fed; and where
    it gets other pixels instead of its own, it would wait for ones that nobody feeds.
    """
    inner = (node for function in definition.library.function for node in function.node_def)
    for node in (*definition.node, *inner):
        node.input[:] = [name for name in node.input if not name.startswith("^")]


def with_constants(traced: Traced) -> Any:
    """The graph as a ``GraphDef`` whose variables are constants, and whose calls can be opened."""
    import tensorflow as tf

    definition = traced.operations.as_graph_def()
    nodes = {f"{node.name}:0": node for node in definition.node}
    for name, value in traced.variables.items():
        node = nodes[name]
        # A graph in half precision is widened; its variables are not.
        kind = tf.as_dtype(node.attr["dtype"].type)
        made = tf.make_tensor_proto(np.asarray(value).astype(kind.as_numpy_dtype))
        node.op = "Const"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = made.dtype
        node.attr["value"].tensor.CopyFrom(made)
    _allow_inlining(definition)
    _drop_waiting(definition)
    outputs = [traced.output.partition(":")[0], traced.image.partition(":")[0]]
    return _needed(definition, outputs)


def _needed(definition: Any, outputs: Sequence[str]) -> Any:
    """The nodes that some nodes are made of."""
    nodes = {node.name: node for node in definition.node}
    kept: set[str] = set()
    stack = list(outputs)
    while stack:
        name = stack.pop()
        if name not in kept:
            kept.add(name)
            stack += [each.partition(":")[0] for each in nodes[name].input]
    rest = [node for node in definition.node if node.name in kept]
    del definition.node[:]
    definition.node.extend(rest)
    return definition


def _frozen(traced: Any, specification: Any) -> Any:
    """Inlines what the graph calls in its way; its variables become constants, once more."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(traced)
    definition = frozen.graph.as_graph_def()
    source, result = frozen.inputs[0].name, frozen.outputs[0].name

    def flat(image: Any) -> Any:
        return tf.import_graph_def(
            definition, input_map={source: image}, return_elements=[result], name=""
        )[0]

    return tf.compat.v1.wrap_function(flat, [specification])


def _as_traced(function: Any, operations: Any) -> Traced:
    refuse_quantized_operations(
        (each.type, each.name, [tensor.dtype.name for tensor in each.inputs])
        for each in operations.get_operations()
    )
    image = next(tensor.name for tensor in function.inputs if tensor.dtype.name != "resource")
    output = function.outputs[0]
    batch = output.shape[0] if output.shape.dims else None
    variables = _variables_by_read(function, operations)
    return Traced(_in_float32(operations, image), image, output.name, batch, variables)


def _in_float32(graph: Any, image: str) -> Any:
    """The graph in float32: one of other floats or of integer pixels is imported again, widened."""
    import tensorflow as tf

    if not graph.get_tensor_by_name(image).dtype.is_integer and not any(
        is_other_float(tensor.dtype.as_datatype_enum)
        for operation in graph.get_operations()
        for tensor in operation.outputs
    ):
        return graph
    definition = taking_floats(widened(graph.as_graph_def()), image.partition(":")[0])
    wide = tf.Graph()
    with wide.as_default():
        tf.import_graph_def(definition, name="")
    return wide


def _variables_by_read(function: Any, operations: Any) -> dict[str, Any]:
    """Values from outside the graph: of variables by the tensors that read them, and constants."""
    import tensorflow as tf

    handles = {inner.name: outer for outer, inner in function.graph.captures}
    found = {name: value for name, value in handles.items() if value.dtype != tf.resource}
    for operation in operations.get_operations():
        if operation.type == "ReadVariableOp":
            handle = operation.inputs[0]
            while handle.op.type == "Identity":
                handle = handle.op.inputs[0]
            kind = operation.outputs[0].dtype
            # Reading shares the variable's memory.
            found[operation.outputs[0].name] = tf.raw_ops.ReadVariableOp(
                resource=handles[handle.name], dtype=kind
            )
    return found
