"""Experiments on ONNX graphs, run by ONNX Runtime.

Every experiment is a model of its own, cut out of the graph. Weights are not part of these models:
they are fed, from the one copy that is kept, so cutting is cheap and nothing is held twice.
"""

# ruff: noqa: SIM905 - a table of operators reads best as words

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.importers.lift.graph import Graph, Kind, Node
from vitedge.importers.lift.joined_outputs import join_onnx, show_inner
from vitedge.importers.lift.onnx_files import (
    add_logits,
    count_weights,
    element_types,
    image_of,
    load_onnx,
    open_onnx,
    shape_of,
    without_weights,
)
from vitedge.importers.lift.onnx_rules import OnnxRules
from vitedge.importers.lift.probe import Function
from vitedge.network.operators import Array

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
        "ScatterND DepthToSpace Col2Im Resize Upsample ReorderInput ReorderOutput".split()
    ),
}
_SPELLING = 0.05
"""Largest difference of a logit, over their range, that half precision in every layer explains; an
operator that was written out wrong changes them by more than their range."""

_KIND_OF = {op: kind for kind, ops in _KINDS.items() for op in ops}


class OnnxProbe:
    """An ONNX model.

    Args:
        path: The file.
        image_size: Height and width, where the model leaves them open.
        logits: Names of the outputs that hold the logits; several are averaged. A tensor inside
            of the graph is an output, too, where it is named.
        beside: Names of further outputs; with such, the graph's output holds all of them.

    Attributes:
        parameters: Number of weights.
        left_out: The names of the outputs that are neither the logits nor beside them.

    Raises:
        ModelError: The file is damaged, or it does not map one image to logits.
        UnavailableError: onnx or ONNX Runtime is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        image_size: tuple[int, int] | None = None,
        logits: Sequence[str] = (),
        beside: Sequence[str] = (),
    ) -> None:
        source = open_onnx(path)
        model, image = source.model, image_of(path, source.model)
        self.batch, self.image_shape = shape_of(path, model, image_size)
        show_inner(model, (*logits, *beside))
        output = add_logits(path, model, logits, beside)
        self.left_out = _left_out(model, output, beside)
        if beside:
            output = join_onnx(path, model, output, beside)
        self.parameters = count_weights(model)
        self._skeleton, self._weights = without_weights(model)
        self.takes_integers = source.takes_integers
        changed = source.changed
        del model, source
        nodes = self._skeleton.graph.node
        self._nodes = {name: node for node in nodes for name in node.output if name}
        self._constants = {item.name: item for item in self._skeleton.graph.initializer}
        self._types = element_types(self._skeleton, self._weights, image)
        self._dtype(image.name)  # refuses a type that is none
        self.graph = Graph(map(_node, nodes), image.name, output)
        if self.batch is None and not self._runs_two():
            self.batch = 1
        if changed:
            self._compare(path, logits, beside)

    def rules(self) -> OnnxRules:
        """See ``Probe``."""
        opset = next(each.version for each in self._skeleton.opset_import if not each.domain)
        return OnnxRules(self._nodes, opset, self.constants)

    def constants(self, tensors: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Tensors that do not depend on the pixels, for one image, in their own types."""
        from onnx import numpy_helper

        known = {name: self._weights[name] for name in tensors if name in self._weights}
        stored = (name for name in tensors if name in self._constants)
        known |= {name: numpy_helper.to_array(self._constants[name]) for name in stored}
        names = [name for name in tensors if name not in known]
        if names:
            run = self._open(*self._cut([self.graph.image], names), names)
            image = np.zeros((1, *self.image_shape), self._dtype(self.graph.image))
            known |= dict(zip(names, run({self.graph.image: image}), strict=True))
        return [known[name] for name in tensors]

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
                part.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # what fails is not tried again, with a note on stdout
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
                stack.extend(_read_by(self._nodes[name]))
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
        try:
            kind: npt.DTypeLike = onnx.helper.tensor_dtype_to_np_dtype(number)
        except KeyError as error:
            raise ModelError(f"'{name}' has elements of an unknown type, {number}") from error
        return kind

    def _compare(self, path: Path, logits: Sequence[str], beside: Sequence[str]) -> None:
        """Compares the logits with those of the file itself, at its own precision.

        Raises:
            ModelError: The logits differ by more than the precision explains.
        """
        import onnx
        import onnxruntime

        original = load_onnx(path)
        show_inner(original, (*logits, *beside))
        output = add_logits(path, original, logits, beside)
        if beside:
            output = join_onnx(path, original, output, beside)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        image = self.graph.image
        shape = (self.batch or 1, *self.image_shape)
        pixels = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        if self.takes_integers:
            pixels = np.round(127 * (pixels + 1))
        kinds = {item.name: item.type.tensor_type.elem_type for item in original.graph.input}
        del original.graph.output[:]
        original.graph.output.append(onnx.ValueInfoProto(name=output))
        try:
            session = onnxruntime.InferenceSession(
                original.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            fed = {image: pixels.astype(onnx.helper.tensor_dtype_to_np_dtype(kinds[image]))}
            theirs = np.asarray(session.run([output], fed)[0], np.float32)
        except Exception:  # what ONNX Runtime has no kernel for (bfloat16), or over 2 GB
            return
        (ours,) = self.function([image], [output])([pixels])
        difference = np.abs(ours - theirs).max()
        if not difference <= _SPELLING * max(float(np.ptp(theirs)), float(np.abs(theirs).max())):
            raise ModelError(
                f"'{path}' computes something else in float32 and standard operators: logits "
                f"differ by {difference:.2g} of a range of {np.ptp(theirs):.2g}"
            )

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


def _read_by(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node, with those that the branches inside of it read from outside."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [name for inner in graph.node for name in _read_by(inner)]
            names += [output.name for output in graph.output]
    return names


def _renamed(node: onnx.NodeProto, fed: set[str]) -> onnx.NodeProto:
    """A node whose outputs do not collide with fed tensors."""
    import onnx

    if not fed.intersection(node.output):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[:] = [f"{name} (unused)" if name in fed else name for name in node.output]
    return copy


def _left_out(model: onnx.ModelProto, logits: str, beside: Sequence[str]) -> tuple[str, ...]:
    """The names of the outputs that are not given."""
    names, used = [item.name for item in model.graph.output], {logits, *beside}
    if logits not in names:  # the mean of several
        made = (node for node in model.graph.node if logits in node.output)
        used.update(name for node in made for name in node.input)
    return tuple(name for name in names if name not in used)


def _node(node: onnx.NodeProto) -> Node:
    kind = _KIND_OF.get(node.op_type, Kind.NONLINEAR)
    if node.op_type == "Conv" and any(each.name == "activation" for each in node.attribute):
        kind = Kind.NONLINEAR  # of ONNX Runtime's layout for one processor
    outputs = [name for name in node.output if name]
    # A CastLike reads the values of its first input, and of the other one the type alone.
    inputs = node.input[:1] if node.op_type == "CastLike" else node.input
    return Node(
        name=node.name or (outputs[0] if outputs else node.op_type),
        op=node.op_type,
        kind=kind,
        inputs=tuple(name for name in inputs if name),
        outputs=tuple(outputs),
        equation=_equation(node) if kind is Kind.CONTRACTION else "",
    )


def _equation(node: onnx.NodeProto) -> str:
    attributes = {item.name: item for item in node.attribute}
    if node.op_type == "Einsum":
        if "equation" not in attributes:
            raise ModelError(f"the node '{node.name}' is an Einsum without an equation")
        return str(attributes["equation"].s.decode(errors="replace"))
    if node.op_type == "MatMul":
        return "...ij,...jk->...ik"
    left = "ji" if "transA" in attributes and attributes["transA"].i else "ij"
    right = "kj" if "transB" in attributes and attributes["transB"].i else "jk"
    return f"{left},{right}->ik"
