"""Experiments on ONNX graphs, run by ONNX Runtime.

Every experiment is a model of its own, cut out of the graph. Weights are no part of these models:
they are fed, from the one copy that is kept, so cutting is cheap and nothing is held twice.
"""

# ruff: noqa: SIM905 - a table of operators reads best as words

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, missing_package
from vitedge.lift.graph import Graph, Kind, Node
from vitedge.lift.probe import Function
from vitedge.vit import Array

if TYPE_CHECKING:
    import onnx

_KINDS: dict[Kind, frozenset[str]] = {
    Kind.SHAPE: frozenset(["Shape", "Size", "ConstantOfShape"]),
    Kind.MOVE: frozenset(
        "Identity Cast CastLike Reshape Flatten Squeeze Unsqueeze Dropout".split()
    ),
    Kind.SUM: frozenset("Add Sub Neg Sum Mean".split()),
    Kind.PRODUCT: frozenset(["Mul"]),
    Kind.QUOTIENT: frozenset(["Div"]),
    Kind.SELECTION: frozenset(["Where"]),
    Kind.CONTRACTION: frozenset("MatMul Gemm Einsum".split()),
    Kind.AFFINE: frozenset(
        "Conv AveragePool GlobalAveragePool BatchNormalization ReduceMean ReduceSum Transpose "
        "Concat Split Slice Gather GatherND GatherElements Expand Tile Pad SpaceToDepth "
        "DepthToSpace Resize Upsample".split()
    ),
}
_KIND_OF = {op: kind for kind, ops in _KINDS.items() for op in ops}

_SMALL = 1024
"""Constants up to so many elements stay in the graph: among them are all shapes and axes."""

_LOGITS = "logits"


class OnnxProbe:
    """An ONNX model.

    Args:
        path: The file.
        image_size: Height and width, where the model leaves them open.

    Raises:
        ModelError: The file is damaged, or it does not map one image to logits.
        UnavailableError: onnx or ONNX Runtime is missing.
    """

    def __init__(self, path: Path, *, image_size: tuple[int, int] | None = None) -> None:
        model = _load(path)
        image = _image(path, model)
        output = _add_output(path, model)
        self._skeleton, self._weights = _without_weights(model)
        del model
        nodes = self._skeleton.graph.node
        self._nodes = {name: node for node in nodes for name in node.output if name}
        self._constants = {item.name: item for item in self._skeleton.graph.initializer}
        self._types = _element_types(self._skeleton, self._weights, image)
        self.graph = Graph(map(_node, nodes), image.name, output)
        self.batch, self.image_shape = _shape(path, image, image_size)
        self.takes_integers = np.issubdtype(self._dtype(image.name), np.integer)
        if self.batch is None and not self._runs_two():
            self.batch = 1

    def shapes(self, images: int, tensors: Sequence[str]) -> list[tuple[int, ...]]:
        """Computes shapes inside the graph, so that each tensor is freed early."""
        import onnx

        names = [f"shape of {name}" for name in tensors]
        nodes = [
            onnx.helper.make_node("Shape", [name], [shape])
            for name, shape in zip(tensors, names, strict=True)
        ]
        run = self._open(*self._cut([self.graph.image], tensors, nodes), names)
        image = np.zeros((images, *self.image_shape), self._dtype(self.graph.image))
        return [tuple(map(int, result)) for result in run({self.graph.image: image})]

    def function(self, feeds: Sequence[str], fetches: Sequence[str]) -> Function:
        """Cuts out a part and opens a session for it."""
        part, needed, weights = self._cut(feeds, fetches)
        opened = self._open(part, needed, weights, fetches)

        def run(arrays: Sequence[Array]) -> list[Array]:
            fed = {
                name: array.astype(self._dtype(name), copy=False)
                for name, array in zip(feeds, arrays, strict=True)
            }
            return [np.asarray(result, np.float32) for result in opened(fed)]

        return run

    def _open(
        self,
        part: onnx.ModelProto,
        needed: set[str],
        weights: dict[str, npt.NDArray[Any]],
        fetches: Sequence[str],
    ) -> Callable[[dict[str, npt.NDArray[Any]]], list[npt.NDArray[Any]]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Each part runs a few times only: optimising it would take longer.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no public base
            raise _failure(error) from error

        def run(fed: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
            used = {name: array for name, array in fed.items() if name in needed}
            try:
                return list(session.run(list(fetches), used | weights))
            except Exception as error:  # as above
                raise _failure(error) from error

        return run

    def _cut(
        self, feeds: Sequence[str], fetches: Sequence[str], more: Sequence[onnx.NodeProto] = ()
    ) -> tuple[onnx.ModelProto, set[str], dict[str, npt.NDArray[Any]]]:
        """The part between two sets of tensors, the feeds it needs, and its weights."""
        import onnx

        wanted, seen, needed, stack = set(), set(), set(), list(fetches)
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in feeds:
                needed.add(name)
            elif name in self._nodes:
                wanted.add(id(self._nodes[name]))
                stack.extend(self._nodes[name].input)
        part = onnx.ModelProto(ir_version=self._skeleton.ir_version)
        part.opset_import.extend(self._skeleton.opset_import)
        part.graph.name = "part"
        part.graph.node.extend(
            _renamed(node, needed) for node in self._skeleton.graph.node if id(node) in wanted
        )
        part.graph.node.extend(more)
        constants = [self._constants[name] for name in seen if name in self._constants]
        part.graph.initializer.extend(constants)
        weights = {name: self._weights[name] for name in seen if name in self._weights}
        for name in needed:
            kind = self._types.get(name, onnx.TensorProto.FLOAT)
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
        for name, array in weights.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        results = [name for node in more for name in node.output] or fetches
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
        return part, needed, weights

    def _dtype(self, name: str) -> npt.DTypeLike:
        import onnx

        number = self._types.get(name, onnx.TensorProto.FLOAT)
        kind: npt.DTypeLike = onnx.helper.tensor_dtype_to_np_dtype(number)
        return kind

    def _runs_two(self) -> bool:
        """Whether a batch that is said to be free really is."""
        run = self.function([self.graph.image], [self.graph.output])
        try:
            (answer,) = run([np.zeros((2, *self.image_shape), np.float32)])
        except ModelError:
            return False
        return bool(answer.shape[0] == 2)


def _failure(error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0]
    return ModelError(f"ONNX Runtime cannot run the model: {reason}")


def _load(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        import onnxruntime  # noqa: F401  # better now than after loading
    except ImportError as error:
        raise missing_package(str(error.name), "convert") from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise ModelError(f"'{path}' is truncated or not an ONNX file ({error})") from error
    if not model.graph.node:
        raise ModelError(f"'{path}' is truncated or not an ONNX file (it has no nodes)")
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _image(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    initialized = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in initialized]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise ModelError(f"'{path}' has the inputs ({names}); one, the image, is needed")
    return inputs[0]


def _shape(
    path: Path, image: onnx.ValueInfoProto, image_size: tuple[int, int] | None
) -> tuple[int | None, tuple[int, int, int]]:
    """The fixed batch size, or None, and the shape of one image."""
    dims: list[int | None] = [dim.dim_value or None for dim in image.type.tensor_type.shape.dim]
    if len(dims) == 4:
        batch, *sizes = dims
        if image_size is not None:
            given = (*image_size, None) if sizes[2] in (1, 3) else (None, *image_size)
            sizes = [size or other for size, other in zip(sizes, given, strict=True)]
        first, second, third = sizes
        if first is not None and second is not None and third is not None:
            return batch, (first, second, third)
    raise ModelError(f"'{path}' takes {dims}; give --image-size if height and width are open")


def _add_output(path: Path, model: onnx.ModelProto) -> str:
    """The name of the logits: the output of that name, the only one, or the mean of two.

    DeiT's class and distillation heads are averaged, as its paper does for inference
    (arXiv:2012.12877, 5.2).
    """
    import onnx

    outputs = list(model.graph.output)
    if any(output.name == _LOGITS for output in outputs):
        return _LOGITS
    if len(outputs) > 1:
        outputs = [item for item in outputs if len(item.type.tensor_type.shape.dim) == 2]
    if len(outputs) == 1:
        return str(outputs[0].name)
    widths = {item.type.tensor_type.shape.dim[1].dim_value for item in outputs}
    if len(outputs) == 2 and len(widths) == 1:
        name = "mean of both heads"
        names = [item.name for item in outputs]
        model.graph.node.append(onnx.helper.make_node("Mean", names, [name], name))
        return name
    names = [item.name for item in model.graph.output]
    raise ModelError(f"'{path}' has the outputs {names}; which one holds the logits?")


def _without_weights(
    model: onnx.ModelProto,
) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]]]:
    """A copy of the graph with its small constants, and the large ones apart."""
    import onnx
    from onnx import numpy_helper

    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.graph.node.extend(model.graph.node)
    weights = {}
    for item in model.graph.initializer:
        if int(np.prod(item.dims)) > _SMALL:
            weights[item.name] = numpy_helper.to_array(item)
        else:
            skeleton.graph.initializer.append(item)
    return skeleton, weights


def _renamed(node: onnx.NodeProto, fed: set[str]) -> onnx.NodeProto:
    """A node whose outputs do not collide with fed tensors."""
    import onnx

    if not fed.intersection(node.output):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[:] = [f"{name} (unused)" if name in fed else name for name in node.output]
    return copy


def _element_types(
    skeleton: onnx.ModelProto, weights: dict[str, npt.NDArray[Any]], image: onnx.ValueInfoProto
) -> dict[str, int]:
    """ONNX's number of each tensor's element type, as far as it can be inferred."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.graph.name = "types"
    model.graph.input.append(image)
    for name, array in weights.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    inferred = onnx.shape_inference.infer_shapes(model).graph
    items = [*inferred.input, *inferred.value_info, *inferred.output]
    return {item.name: item.type.tensor_type.elem_type for item in items}


def _node(node: onnx.NodeProto) -> Node:
    kind = _KIND_OF.get(node.op_type, Kind.NONLINEAR)
    outputs = [name for name in node.output if name]
    return Node(
        name=node.name or outputs[0],
        op=node.op_type,
        kind=kind,
        inputs=tuple(name for name in node.input if name),
        outputs=tuple(outputs),
        equation=_equation(node) if kind is Kind.CONTRACTION else "",
    )


def _equation(node: onnx.NodeProto) -> str:
    attributes = {item.name: item for item in node.attribute}
    if node.op_type == "Einsum":
        return str(attributes["equation"].s.decode())
    if node.op_type == "MatMul":
        return "...ij,...jk->...ik"
    left = "ji" if "transA" in attributes and attributes["transA"].i else "ij"
    right = "kj" if "transB" in attributes and attributes["transB"].i else "jk"
    return f"{left},{right}->ik"
