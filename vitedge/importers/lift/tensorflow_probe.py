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
from vitedge.importers.lift.claims import refuse_large_tensors
from vitedge.importers.lift.graph import Graph, Kind, Node
from vitedge.importers.lift.probe import Function
from vitedge.importers.lift.tensorflow_rules import TensorFlowRules
from vitedge.importers.lift.tensorflow_trace import Traced, trace
from vitedge.network.operators import Array

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
        "Conv2D Conv2DBackpropInput Conv3D DepthwiseConv2dNative AvgPool Mean Sum Transpose "
        "ConjugateTranspose ConcatV2 Concat Pack Unpack Split SplitV Slice StridedSlice GatherV2 "
        "Gather GatherNd Tile BroadcastTo Pad PadV2 MirrorPad ExtractImagePatches SpaceToDepth "
        "DepthToSpace SpaceToBatchND BatchToSpaceND ReverseV2 Roll ResizeBilinear "
        "ResizeBicubic ResizeNearestNeighbor".split()
    ),
}
_KIND_OF = {op: kind for kind, ops in _KINDS.items() for op in ops}


class TensorFlowProbe:
    """A traced TensorFlow model.

    Args:
        model: Maps images ``(N, *image_shape)`` to logits ``(N, classes)``, made of TensorFlow
            operations; traced once.
        image_shape: Shape of one image.
        batch: The only batch size it takes, or None.
        dtype: TensorFlow's name of the input's type.

    Attributes:
        left_out: The parts that were taken out of the model, in words; empty if there were none.

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
        traced = trace(model, tf.TensorSpec((batch, *image_shape), dtype, name="image"))
        if batch is None and traced.batch:  # a layer inside has a batch size of its own
            batch = traced.batch
            traced = trace(model, tf.TensorSpec((batch, *image_shape), dtype, name="image"))
        self.batch = batch
        changed = "augmentation or dropout left out, which was switched on"
        self.left_out = changed if traced.is_changed else ""
        refuse_large_tensors(
            (tensor.name, tensor.shape.as_list())
            for operation in traced.operations.get_operations()
            for tensor in operation.outputs
            if tensor.shape.rank is not None
        )
        self.graph = _read_graph(traced)
        self._operations, self._variables = traced.operations, traced.variables
        self._session = _session(traced.operations)

    def rules(self) -> TensorFlowRules:
        """See ``Probe``."""
        return TensorFlowRules(self._operations, self.constants)

    def constants(self, tensors: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Tensors that do not depend on the pixels, for one image, in their own types."""
        image = np.zeros((1, *self.image_shape), self._dtype(self.graph.image))
        known = {
            name: np.asarray(self._variables[name]) for name in tensors if name in self._variables
        }
        names = [name for name in tensors if name not in known]
        weights = self._weights_between([self.graph.image], names)
        found = self._run(names, {self.graph.image: image} | weights)
        known |= {name: np.asarray(each) for name, each in zip(names, found, strict=True)}
        return [known[name] for name in tensors]

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
                # All that the operator takes, of whichever of its outputs this is one.
                tensor = self._operations.get_tensor_by_name(name)
                stack.extend(each.name for each in tensor.op.inputs)
        return found


def _session(graph: Any) -> Any:
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    options = tf.compat.v1.ConfigProto()
    # Each part runs a few times only: optimising it would take longer.
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    options.graph_options.rewrite_options.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
    return tf.compat.v1.Session(graph=graph, config=options)


def _read_graph(traced: Traced) -> Graph:
    operations = traced.operations.get_operations()
    nodes = [node for operation in operations for node in _nodes(operation)]
    return Graph(nodes, traced.image, traced.output)


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
