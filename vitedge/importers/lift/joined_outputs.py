"""Several outputs of one model: joined at the end of its graph, and told apart again.

Whatever looks at a graph looks at what leads to its one output. A model that is asked for several
gets a last node that holds all of them side by side, so nothing else needs to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitedge.errors import ModelError, NotAViTError
from vitedge.importers.lift.graph import Graph

if TYPE_CHECKING:
    import onnx

_ALL = "all outputs"


def left_out_words(names: Sequence[str], *, can_be_given: bool) -> str:
    """Says which outputs of a source are left out; empty if none is.

    Args:
        names: Their names.
        can_be_given: Whether ``--beside`` gives them.
    """
    listed = ", ".join(f"'{name}'" for name in names)
    several = "s" if len(names) > 1 else ""
    remedy = " (--beside NAME gives one, too)" if can_be_given else ""
    return f"output{several} {listed} left out{remedy}" if names else ""


def show_inner(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Makes outputs of tensors inside of a graph: what stands before a tail that nobody can read.

    Names that no node makes are left for whoever looks for them among the outputs.
    """
    import onnx

    shown = {item.name for item in model.graph.output}
    made = {name for node in model.graph.node for name in node.output if name}
    for name in dict.fromkeys(names):
        if name in made - shown:
            kind, inferred = onnx.TensorProto.FLOAT, None
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, inferred))


def join_onnx(path: Path, model: onnx.ModelProto, main: str, beside: Sequence[str]) -> str:
    """The tensor with the main output and those beside it, ``(N, numbers)``.

    Args:
        path: The file, for messages.
        model: Its graph; nodes are added.
        main: The main output.
        beside: Names of the others.

    Raises:
        ModelError: There is no such output, or it holds no float numbers.
    """
    import onnx

    kinds = {item.name: item.type.tensor_type.elem_type for item in model.graph.output}
    known = ", ".join(f"'{name}'" for name in kinds)
    for name in beside:
        if name not in kinds:
            raise ModelError(f"'{path}' has no output '{name}', but {known}")
    for name in (main, *beside):
        if kinds.get(name, onnx.TensorProto.FLOAT) != onnx.TensorProto.FLOAT:
            raise ModelError(
                f"the output '{name}' of '{path}' holds no float numbers; leave it out"
            )
    flat = []
    for index, name in enumerate((main, *beside)):
        flat.append(f"{_ALL}/{index}")
        node = onnx.helper.make_node("Flatten", [name], flat[-1:], flat[-1], axis=1)
        model.graph.node.append(node)
    model.graph.node.append(onnx.helper.make_node("Concat", flat, [_ALL], _ALL, axis=1))
    return _ALL


def join_tensors(main: Any, beside: Sequence[Any]) -> Any:
    """Joins TensorFlow's tensors in the same way."""
    import tensorflow as tf

    parts = [tf.reshape(each, (tf.shape(each)[0], -1)) for each in (main, *beside)]
    return tf.concat(parts, 1)


def joined_parts(graph: Graph, beside: Sequence[str]) -> tuple[str, ...]:
    """The tensors that a graph's output was joined of: the main output, and those beside it.

    Raises:
        NotAViTError: One does not depend on the image.
    """
    flat = graph.producer(graph.output).inputs[: 1 + len(beside)]
    found = []
    for name, tensor in zip(("main", *beside), flat, strict=True):
        live = graph.live_inputs(graph.producer(tensor))
        if not live:
            raise NotAViTError(f"the output '{name}' does not depend on the image")
        found.append(live[0])
    return tuple(found)
