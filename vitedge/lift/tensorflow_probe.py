"""Experiments on TensorFlow graphs: Keras models and SavedModels.

The model is traced into a flat graph whose variables stay where they are. Experiments run in a
session, which can feed and fetch any tensor and computes only what lies between; the variables in
that part are fed, too, so the graph itself holds no weight.
"""

# ruff: noqa: SIM905 - a table of operators reads best as words

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.lift.graph import Graph, Kind, Node
from vitedge.lift.probe import Function
from vitedge.vit import Array

_KINDS: dict[Kind, frozenset[str]] = {
    Kind.SHAPE: frozenset(
        "Shape ShapeN Size Rank ZerosLike OnesLike BroadcastGradientArgs".split()
    ),
    Kind.MOVE: frozenset(
        "Identity StopGradient PreventGradient Snapshot Cast Reshape Squeeze ExpandDims "
        "CheckNumerics EnsureShape PlaceholderWithDefault".split()
    ),
    Kind.SUM: frozenset("Add AddV2 AddN Sub Neg BiasAdd".split()),
    Kind.PRODUCT: frozenset(["Mul"]),
    Kind.QUOTIENT: frozenset(["Div", "RealDiv"]),
    Kind.SELECTION: frozenset(["Select", "SelectV2"]),
    Kind.CONTRACTION: frozenset("MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum".split()),
    Kind.AFFINE: frozenset(
        "Conv2D Conv3D DepthwiseConv2dNative AvgPool Mean Sum Transpose ConjugateTranspose "
        "ConcatV2 Concat Pack Unpack Split SplitV Slice StridedSlice GatherV2 Gather GatherNd "
        "Tile BroadcastTo Pad PadV2 MirrorPad ExtractImagePatches SpaceToDepth DepthToSpace "
        "SpaceToBatchND BatchToSpaceND ReverseV2 Roll ResizeBilinear "
        "ResizeBicubic ResizeNearestNeighbor".split()
    ),
}
_KIND_OF = {op: kind for kind, ops in _KINDS.items() for op in ops}

_CALLS = frozenset(
    "PartitionedCall StatefulPartitionedCall If StatelessIf While StatelessWhile".split()
)

_READS = frozenset(["ReadVariableOp"])


class TensorFlowProbe:
    """A traced TensorFlow model.

    Args:
        model: Maps images ``(N, *image_shape)`` to logits ``(N, classes)``, made of TensorFlow
            operations; traced once.
        image_shape: Shape of one image.
        batch: The only batch size it takes, or None.
        dtype: TensorFlow's name of the input's type.

    Raises:
        ModelError: TensorFlow cannot trace the model.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        image_shape: tuple[int, int, int],
        batch: int | None,
        dtype: str = "float32",
    ) -> None:
        import tensorflow as tf

        self.image_shape = image_shape
        self.takes_integers = tf.as_dtype(dtype).is_integer
        traced = _trace(model, tf.TensorSpec((batch, *image_shape), dtype, name="image"))
        built_in = traced.outputs[0].shape.dims and traced.outputs[0].shape[0]
        if batch is None and built_in:  # a layer inside has a batch size of its own
            batch = int(built_in)
            traced = _trace(model, tf.TensorSpec((batch, *image_shape), dtype, name="image"))
        self.batch = batch
        self.graph = _read_graph(traced)
        self._operations = traced.graph
        self._variables = _variables_by_read(traced)
        self._session = _session(traced.graph)

    def shapes(self, images: int, tensors: Sequence[str]) -> list[tuple[int, ...]]:
        """Fetches shapes only, so that each tensor is freed as soon as the model is past it."""
        import tensorflow as tf

        with self._operations.as_default():
            fetched = [tf.shape(self._operations.get_tensor_by_name(name)) for name in tensors]
        image = np.zeros((images, *self.image_shape), self._dtype(self.graph.image))
        weights = self._weights_between([self.graph.image], tensors)
        results = self._run(fetched, {self.graph.image: image} | weights)
        return [tuple(map(int, result)) for result in results]

    def function(self, feeds: Sequence[str], fetches: Sequence[str]) -> Function:
        """Prepares a part of the session's graph."""
        weights = self._weights_between(feeds, fetches)
        types = [self._dtype(name) for name in feeds]

        def run(arrays: Sequence[Array]) -> list[Array]:
            typed = [
                array.astype(kind, copy=False) for array, kind in zip(arrays, types, strict=True)
            ]
            results = self._run(list(fetches), dict(zip(feeds, typed, strict=True)) | weights)
            return [np.asarray(result, np.float32) for result in results]

        return run

    def _run(self, fetches: list[Any], feeds: Mapping[str, Any]) -> list[Any]:
        import tensorflow as tf

        try:
            return list(self._session.run(fetches, feeds))
        except tf.errors.OpError as error:
            reason = str(error.message).strip().partition("\n")[0]
            raise ModelError(f"TensorFlow cannot run the model: {reason}") from error

    def _dtype(self, name: str) -> npt.DTypeLike:
        kind: npt.DTypeLike = self._operations.get_tensor_by_name(name).dtype.as_numpy_dtype
        return kind

    def _weights_between(
        self, feeds: Sequence[str], fetches: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """The variables that a part of the graph reads; NumPy shares their memory."""
        return {
            name: np.asarray(self._variables[name]) for name in self._reads_between(feeds, fetches)
        }

    def _reads_between(self, feeds: Sequence[str], fetches: Sequence[str]) -> list[str]:
        """The reads of variables that a part of the graph needs."""
        found, seen, stack = [], set(feeds), list(fetches)
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._variables:
                found.append(name)
            else:
                stack.extend(self.graph.producer(name).inputs)
        return found


def _trace(model: Callable[[Any], Any], specification: Any) -> Any:
    import tensorflow as tf

    traced = tf.compat.v1.wrap_function(model, [specification])
    flat = all(_is_flat(operation) for operation in traced.graph.get_operations())
    return traced if flat else _frozen(traced, specification)


def _is_flat(operation: Any) -> bool:
    """Whether it calls no function, and reads variables only as a whole."""
    resources = any(tensor.dtype.name == "resource" for tensor in operation.inputs)
    return operation.type not in _CALLS and (not resources or operation.type in _READS)


def _frozen(traced: Any, specification: Any) -> Any:
    """Inlines functions that the graph calls; its variables become constants on the way."""
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


def _variables_by_read(traced: Any) -> dict[str, Any]:
    """Values from outside the graph: of variables by the tensors that read them, and constants."""
    import tensorflow as tf

    handles = {inner.name: outer for outer, inner in traced.graph.captures}
    found = {name: value for name, value in handles.items() if value.dtype != tf.resource}
    for operation in traced.graph.get_operations():
        if operation.type == "ReadVariableOp":
            handle = handles[operation.inputs[0].name]
            kind = operation.outputs[0].dtype
            # Reading shares the variable's memory.
            found[operation.outputs[0].name] = tf.raw_ops.ReadVariableOp(
                resource=handle, dtype=kind
            )
    return found


def _session(graph: Any) -> Any:
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    options = tf.compat.v1.ConfigProto()
    # Each part runs a few times only: optimising it would take longer.
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    options.graph_options.rewrite_options.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
    return tf.compat.v1.Session(graph=graph, config=options)


def _read_graph(traced: Any) -> Graph:
    nodes = [node for operation in traced.graph.get_operations() for node in _nodes(operation)]
    image = next(tensor.name for tensor in traced.inputs if tensor.dtype.name != "resource")
    outputs = traced.outputs
    if len(outputs) != 1:
        raise ModelError(f"the model has {len(outputs)} outputs; one, the logits, is needed")
    return Graph(nodes, image, outputs[0].name)


def _nodes(operation: Any) -> list[Node]:
    if operation.type != "IdentityN":  # of functions with a gradient of their own, such as silu
        return [_node(operation)]
    pairs = zip(operation.inputs, operation.outputs, strict=True)
    return [
        Node(operation.name, operation.type, Kind.MOVE, (before.name,), (after.name,))
        for before, after in pairs
    ]


def _node(operation: Any) -> Node:
    kind = _KIND_OF.get(operation.type, Kind.NONLINEAR)
    if operation.type.startswith("FusedBatchNorm") and not operation.get_attr("is_training"):
        kind = Kind.AFFINE
    return Node(
        name=operation.name,
        op=operation.type,
        kind=kind,
        inputs=tuple(tensor.name for tensor in operation.inputs),
        outputs=tuple(tensor.name for tensor in operation.outputs),
        equation=_equation(operation) if kind is Kind.CONTRACTION else "",
    )


def _equation(operation: Any) -> str:
    if operation.type == "Einsum":
        return str(operation.get_attr("equation").decode())
    flags = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    left, right = (operation.get_attr(flag) for flag in flags)
    return f"...{'ji' if left else 'ij'},...{'kj' if right else 'jk'}->...ik"
