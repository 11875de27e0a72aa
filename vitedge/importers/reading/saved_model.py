"""Variables of a TensorFlow SavedModel, and what its graph says, without loading the graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vitedge.errors import ModelError, missing_package
from vitedge.importers.lift.saved_model_safety import parse, refuse_links_out
from vitedge.importers.reading.tensors import Tensors
from vitedge.terminal.silence import quiet

_GRAPH, _VARIABLES = "saved_model.pb", "variables/variables"

# Keras 2's SavedMetadata holds nodes (1), and each of those its metadata as JSON (5).
_KERAS_METADATA, _NODES, _METADATA = "keras_metadata.pb", 1, 5


def saved_model_mentions(folder: Path, *names: str) -> bool:
    """Whether the graph's bytes contain every one of these names."""
    if not (folder / _GRAPH).is_file():
        return False
    graph = (folder / _GRAPH).read_bytes()
    return all(name.encode() in graph for name in names)


def variables_mention(folder: Path, name: str) -> bool:
    """Whether the table of variables contains a name.

    A SavedModel with its traced functions files variables by number, one without them by attribute.
    """
    index = folder / f"{_VARIABLES}.index"
    return index.is_file() and name.encode() in index.read_bytes()


def saved_arguments(folder: Path) -> Mapping[str, Any]:
    """The arguments of the model's constructor, where Keras 2 knew them; else empty."""
    try:
        content = (folder / _KERAS_METADATA).read_bytes()
        root = next(data for number, data in _fields(content) if number == _NODES)
        text = next(data for number, data in _fields(root) if number == _METADATA)
        config = json.loads(text)["config"]
    except Exception:  # protobuf's errors share no public base with those of damaged JSON
        return {}
    return config if isinstance(config, dict) else {}


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message by number, without its schema."""
    from google.protobuf import empty_pb2, unknown_fields

    parsed = empty_pb2.Empty()
    parsed.ParseFromString(message)
    for field in unknown_fields.UnknownFieldSet(parsed):
        yield field.field_number, field.data


def split_heads(folder: Path, part: str, width: int) -> int | None:
    """Into how many heads a traced function cuts an attention of so many channels.

    Args:
        folder: The SavedModel.
        part: A part of the names of the attention's nodes.
        width: The width of all heads together.

    Returns:
        The number; None where the graph has no such function, or several numbers.

    Raises:
        ModelError: The graph is damaged.
    """
    found = set()
    for meta_graph in parse(folder).meta_graphs:
        for function in meta_graph.graph_def.library.function:
            nodes = {node.name: node for node in function.node_def}
            for node in nodes.values():
                if node.op != "Reshape" or part not in node.name:
                    continue
                *rest, heads, head_dim = [0, 0, *_sizes(nodes, node.input[1])]
                if len(rest) > 3 and heads * head_dim == width:
                    found.add(heads)
    return found.pop() if len(found) == 1 else None


def _sizes(nodes: Mapping[str, Any], name: str) -> list[int]:
    """A shape made of constants; 0 for each size that is computed, empty when all are."""
    from tensorflow.python.framework.tensor_util import MakeNdarray

    node = nodes.get(name.split(":", maxsplit=1)[0])
    if node is not None and node.op == "Const":
        return [int(size) for size in MakeNdarray(node.attr["value"].tensor).ravel()]
    if node is not None and node.op == "Pack":
        return [size for part in node.input for size in _sizes(nodes, part) or [0]]
    return []


@contextmanager
def open_variables(folder: Path) -> Iterator[Tensors]:
    """Opens the variables by their place in the object graph: ``dense/kernel``.

    Bookkeeping and the optimizer's state are left out.

    Raises:
        ModelError: The variables are missing or truncated, or lie outside of the folder.
        UnavailableError: TensorFlow, which reads this format, is not installed.
    """
    try:
        with quiet():
            import tensorflow as tf
    except ImportError as error:
        raise missing_package("tensorflow", "convert") from error
    # TensorFlow asks for as much memory as a damaged index claims.
    damage = (
        *(tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError, LookupError),
        MemoryError,
    )
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"

    def damaged(error: BaseException) -> ModelError:
        reason = " ".join(str(error).split())
        return ModelError(f"the variables of '{folder}' are missing or truncated ({reason})")

    refuse_links_out(folder)
    if (folder / _VARIABLES).is_dir():  # TensorFlow would go on to where a file in it points
        raise ModelError(f"the variables of '{folder}' are a folder, not a checkpoint")
    try:
        reader = tf.train.load_checkpoint(str(folder / _VARIABLES))
        # TensorFlow writes it last, so a file that has lost its end lacks it.
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
        shapes = {
            name.removesuffix(suffix): tuple(shape)
            for name, shape in reader.get_variable_to_shape_map().items()
            if name.endswith(suffix) and ".OPTIMIZER_SLOT" not in name
        }
    except damage as error:
        raise damaged(error) from error

    def load(name: str) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = reader.get_tensor(name + suffix)
            return array
        except damage as error:
            raise damaged(error) from error

    held = sum(part.stat().st_size for part in (folder / _VARIABLES).parent.glob("*"))
    yield Tensors(str(folder), shapes, load, held=held)
