"""A SavedModel that only computes: TensorFlow loads a copy whose operators were checked.

Loading a SavedModel runs parts of its graph: initializers, the function that restores variables,
whatever a signature depends on. Any of them may hold any operator, such as one that writes a file.
So the graph is parsed without being loaded, its operators are compared with a list, and a copy of
it, without what saves models, is what TensorFlow gets to see.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.files.temporary import temporary_folder
from vitedge.importers.lift.tensorflow_operators import ALLOWED, RESTORING, SAVING
from vitedge.importers.lift.trust import ADD_TRUST
from vitedge.terminal.printable import one_line

GRAPH, VARIABLES = "saved_model.pb", "variables"

_SHOWN, _LONGEST = 3, 100


@contextmanager
def checked_copy(folder: Path) -> Iterator[Path]:
    """A folder with the checked graph, and the variables of the original.

    Args:
        folder: The SavedModel.

    Yields:
        A SavedModel for ``tf.saved_model.load``, gone afterwards.

    Raises:
        ModelError: The graph is damaged or has operators that are not on the list, or a part of
            the folder is a link out of it.
    """
    refuse_links_out(folder)
    saved = parse(folder)
    for meta_graph in saved.meta_graphs:
        _Graph(folder, meta_graph).clean(
            is_version_2=len(saved.meta_graphs) == 1 and meta_graph.HasField("object_graph_def")
        )
    with temporary_folder() as copy:
        (copy / GRAPH).write_bytes(saved.SerializeToString())
        if (folder / VARIABLES).is_dir():
            _link(folder / VARIABLES, copy / VARIABLES)
        yield copy


def parse(folder: Path) -> Any:
    """The ``SavedModel`` message of a folder.

    Raises:
        ModelError: The file is truncated or damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / GRAPH).read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError(f"the graph of '{folder}' is truncated or damaged") from error
    return saved


def refuse_links_out(folder: Path) -> None:
    """Refuses a folder of which a part lies elsewhere.

    The cache of Hugging Face keeps a model's files in a folder of its own, ``blobs``, which counts
    as part of the model.

    Raises:
        ModelError: A file is a link out of the folder, or neither file nor folder.
    """
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    for parent, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(parent) / name
            try:
                real = path.resolve()
            except (OSError, RuntimeError) as error:  # links in a circle
                raise ModelError(
                    f"'{path.relative_to(root)}' in '{folder}' cannot be read"
                ) from error
            if path.is_symlink() and not real.is_relative_to(root) and real.parent != blobs:
                raise ModelError(
                    f"'{path.relative_to(root)}' in '{folder}' is a link to '{real}'; only what "
                    "lies in the folder itself is read: copy it there"
                )
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ModelError(f"'{path.relative_to(root)}' in '{folder}' is not a regular file")


class _Graph:
    """One graph of a SavedModel with its functions."""

    def __init__(self, folder: Path, meta_graph: Any) -> None:
        self._folder = folder
        self._meta = meta_graph
        self._nodes = meta_graph.graph_def.node
        self._functions = {
            function.signature.name: function for function in meta_graph.graph_def.library.function
        }

    def clean(self, *, is_version_2: bool) -> None:
        """Checks all operators, and takes out those that save.

        Args:
            is_version_2: TensorFlow 2 loads it by its objects, and runs nothing of the graph
                outside of functions.

        Raises:
            ModelError: An operator is not on the list.
        """
        self._refuse_names_of_operators()
        savers = self._saving_functions()
        self._refuse_unknown(savers)
        if is_version_2:
            self._refuse_needed(savers, self._meta.object_graph_def.concrete_functions)
            constants = [node for node in self._nodes if node.op == "Const"]
        else:
            constants = self._without_savers(savers)
            self._feed_file_name(constants)
        self._replace(constants, savers)

    def _refuse_names_of_operators(self) -> None:
        """A function by an operator's name would be taken for it."""
        from tensorflow.python.framework import op_def_registry

        for name in self._functions:
            if op_def_registry.get(name) is not None or name in ALLOWED | SAVING | RESTORING:
                raise ModelError(
                    f"'{self._folder}' has a function by the name of an operator, '{name}'"
                )

    def _saving_functions(self) -> dict[str, str]:
        """Functions that save or restore, or call one that does; with the operator."""
        found: dict[str, str] = {}
        for name, function in self._functions.items():
            for node in function.node_def:
                if node.op in SAVING | RESTORING:
                    found[name] = node.op
        callers: dict[str, list[str]] = {}
        for name, function in self._functions.items():
            for node in function.node_def:
                for called in self._called(node):
                    callers.setdefault(called, []).append(name)
        stack = list(found)
        while stack:
            called = stack.pop()
            for name in callers.get(called, ()):
                if name not in found:
                    found[name] = found[called]
                    stack.append(name)
        return found

    def _called(self, node: Any) -> list[str]:
        """Names of the functions that a node runs."""
        names = [node.op] if node.op in self._functions else []
        for value in node.attr.values():
            names += [value.func.name] if value.HasField("func") else []
            names += [each.name for each in value.list.func]
        return names

    def _refuse_unknown(self, savers: Mapping[str, str]) -> None:
        refused: dict[str, None] = {}
        groups = [(self._nodes, SAVING | RESTORING)]
        for name, function in self._functions.items():
            more = SAVING | RESTORING if name in savers else frozenset()
            groups.append((function.node_def, more))
        for nodes, more in groups:
            for node in nodes:
                if node.op not in ALLOWED | more and node.op not in self._functions:
                    refused[node.op] = None
                for called in self._called(node):
                    if called not in self._functions:
                        refused[called] = None
                if node.op == "Const" and node.attr["dtype"].type in _opaque_types():
                    refused["Const of a resource"] = None
        if refused:
            self._refuse(list(refused))

    def _refuse(self, operators: list[str]) -> None:
        shown = ", ".join(f"'{one_line(name, _LONGEST)}'" for name in operators[:_SHOWN])
        more = f" and {len(operators) - _SHOWN} more" if len(operators) > _SHOWN else ""
        raise ModelError(
            f"'{self._folder}' has the TensorFlow operators {shown}{more}, which are not on the "
            f"list of those that only compute; {ADD_TRUST}"
        )

    def _refuse_needed(self, savers: Mapping[str, str], names: Iterable[str]) -> None:
        for name in names:
            if name in savers:
                self._refuse([savers[name]])

    def _without_savers(self, savers: Mapping[str, str]) -> list[Any]:
        """The nodes but those that save, and whatever comes after them."""
        saving: dict[str, str] = {}
        for node in self._nodes:
            operators = [savers[called] for called in self._called(node) if called in savers]
            if node.op in SAVING or operators:
                saving[node.name] = (operators or [node.op])[0]
        gone = set(saving)
        users: dict[str, list[str]] = {}
        for node in self._nodes:
            for name in node.input:
                users.setdefault(_node_name(name), []).append(node.name)
        stack = list(gone)
        while stack:
            for name in users.get(stack.pop(), ()):
                if name not in gone:
                    gone.add(name)
                    stack.append(name)
        needed = [_node_name(name) for name in self._needed()]
        if any(name in gone for name in needed):
            self._refuse(sorted(set(saving.values())))
        return [node for node in self._nodes if node.name not in gone]

    def _needed(self) -> Iterator[str]:
        """The parts of a graph of version 1 that TensorFlow runs when it loads or serves it."""
        yield self._meta.saver_def.restore_op_name
        for signature in self._meta.signature_def.values():
            for tensor in (*signature.inputs.values(), *signature.outputs.values()):
                yield tensor.name
        for collection in self._meta.collection_def.values():
            yield from collection.node_list.value

    def _feed_file_name(self, nodes: list[Any]) -> None:
        """Leaves the name of the checkpoint open, which TensorFlow gives; refuses any other."""
        from tensorflow.core.framework import types_pb2

        by_name = {node.name: node for node in nodes}
        given = _node_name(self._meta.saver_def.filename_tensor_name)
        for node in nodes:
            if node.op not in RESTORING:
                continue
            if _origin(node, by_name) != given:
                raise ModelError(
                    f"'{self._folder}' restores variables ('{node.name}') from a file that is not "
                    f"its own; {ADD_TRUST}"
                )
        if given in by_name:
            node = by_name[given]
            node.Clear()
            node.name, node.op = given, "Placeholder"
            node.attr["dtype"].type = types_pb2.DT_STRING
            node.attr["shape"].shape.SetInParent()

    def _replace(self, nodes: list[Any], savers: Mapping[str, str]) -> None:
        """Keeps these nodes and all functions but these, none with settings of its own."""
        definition = self._meta.graph_def
        kept = type(definition)()
        kept.versions.CopyFrom(definition.versions)
        kept.node.extend(nodes)
        kept.library.CopyFrom(definition.library)
        del kept.library.function[:]
        kept.library.function.extend(
            function for name, function in self._functions.items() if name not in savers
        )
        for part in (kept.node, *(function.node_def for function in kept.library.function)):
            for node in part:
                node.device = ""  # of the machine that saved it
                for setting in ("config_proto", "executor_type"):
                    node.attr.pop(setting, None)
        definition.CopyFrom(kept)


def _origin(node: Any, by_name: Mapping[str, Any]) -> str:
    """The node that a node's first input comes from, through nodes that pass it on."""
    seen: set[str] = set()
    while node is not None and node.input and node.name not in seen:
        seen.add(node.name)
        name = _node_name(node.input[0])
        node = by_name.get(name)
        if node is None or node.op != "Identity":
            return name
    return ""


def _opaque_types() -> tuple[int, int]:
    from tensorflow.core.framework import types_pb2

    return types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT


def _node_name(tensor: str) -> str:
    """``a/b`` of ``a/b:0`` and ``^a/b``."""
    return tensor.removeprefix("^").partition(":")[0]


def _link(source: Path, target: Path) -> None:
    """Variables are not copied where a link will do."""
    try:
        target.symlink_to(source.resolve(), target_is_directory=True)
    except OSError:  # Windows asks for a privilege
        shutil.copytree(source, target)
