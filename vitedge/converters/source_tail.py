"""The part of an ONNX source that follows a trunk.

Some models end in operators that no network can hold, such as a detector's non-maximum suppression.
The part before them, the trunk, is read, rewritten and quantized by itself. Formats that can hold
the source's own nodes append them to its outputs, unchanged and in float.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitedge.errors import ConversionError
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.onnx_files import load_onnx
from vitedge.importers.lift.onnx_probe import OnnxProbe


@dataclass(frozen=True)
class Tail:
    """The nodes of a source that follow a trunk.

    Attributes:
        source: The ONNX file that trunk and tail come from.
        joints: The tensor of the source that each output of the trunk equals, by the output's name.
        maps: Outputs whose channels come last, though they may come first in the source.
        image_size: Height and width in pixels, if the source leaves them open.
    """

    source: Path
    joints: Mapping[str, str]
    maps: frozenset[str]
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Joint:
    """A tensor where a trunk ends and a tail begins.

    Attributes:
        output: The trunk's output.
        tensor: The tensor of the source.
        shape: The shape that the tail reads.
        is_turned: Whether the output is ``(N, H, W, C)`` where the tail reads ``(N, C, H, W)``.
    """

    output: str
    tensor: str
    shape: tuple[int, ...]
    is_turned: bool

    def demand(self, count: int) -> None:
        """Refuses an output of another count of numbers.

        Raises:
            ConversionError: The count is another one.
        """
        if count != math.prod(self.shape):
            raise ConversionError(
                f"'{self.output}' has {count} numbers, where the tail reads {self.shape}"
            )


def tail_behind(tail: Tail, batch: int) -> tuple[Any, tuple[Joint, ...]]:
    """The nodes of the source that read the trunk's outputs, as an ONNX model of their own.

    Args:
        tail: The file, and the tensors that the nodes read.
        batch: The trunk's batch size.

    Returns:
        The model, whose inputs are the joints' tensors, and the joints.

    Raises:
        ConversionError: There are none, or they also read the image directly.
    """
    probe = OnnxProbe(tail.source, image_size=tail.image_size)
    shapes = probe.shapes(batch, list(tail.joints.values()))
    turned = channels_first(probe.image_shape)
    joints = tuple(
        Joint(output, tensor, shape, turned and output in tail.maps and len(shape) == 4)
        for (output, tensor), shape in zip(tail.joints.items(), shapes, strict=True)
    )
    return _behind(tail, {each.tensor: each.shape for each in joints}), joints


def _behind(tail: Tail, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The part of the source that reads the joints, as a model of its own."""
    import onnx

    source = load_onnx(tail.source)
    makers = {name: node for node in source.graph.node for name in node.output if name}
    stored = {each.name: each for each in source.graph.initializer}
    if source.functions:
        raise ConversionError("a tail of ONNX functions cannot be put behind a trunk")
    joints, images = set(shapes), {each.name for each in source.graph.input} - stored.keys()
    outputs = [each for each in source.graph.output if each.name not in joints]
    trunk = _made_of_images(makers, images) & _needed_for(joints, makers)
    wanted, read, missing = set(), set(), set()
    stack = [each.name for each in outputs]
    while stack:
        name = stack.pop()
        if name in read or name in joints:
            continue
        read.add(name)
        if name in trunk or name in images:
            missing.add(name)
        elif name in makers:
            wanted.add(id(makers[name]))
            stack += _read_by(makers[name])
    if missing:
        raise ConversionError(_missing_words(joints, missing, images))
    if not wanted:
        raise ConversionError("nothing stands behind the trunk; leave out --tail")
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node for node in source.graph.node if id(node) in wanted],
        "tail",
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()],
        outputs,
        [stored[name] for name in read if name in stored],
    )
    return onnx.helper.make_model(
        graph, ir_version=source.ir_version, opset_imports=source.opset_import
    )


def _needed_for(names: Iterable[str], makers: Mapping[str, Any]) -> set[str]:
    """Some tensors, and all that they are made of."""
    found, stack = set(), [*names]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += _read_by(makers[name]) if name in makers else []
    return found


def _made_of_images(makers: Mapping[str, Any], images: Iterable[str]) -> set[str]:
    """The tensors that differ from image to image; nodes come after those that they read."""
    found = set(images)
    for name, node in makers.items():
        if not found.isdisjoint(_read_by(node)):
            found.add(name)
    return found


def _missing_words(joints: Iterable[str], missing: set[str], images: set[str]) -> str:
    """Says what the tail reads besides the joints."""
    behind = " and ".join(f"'{each}'" for each in sorted(joints))
    if missing & images:
        image = " and ".join(f"'{each}'" for each in sorted(missing & images))
        return f"the nodes behind {behind} also read the image itself ({image}), as no tail can"
    also = " and ".join(f"'{each}'" for each in sorted(missing))
    options = " ".join(f"--beside {each}" for each in sorted(missing))
    return f"the nodes behind {behind} also read {also}: add {options}"


def _read_by(node: Any) -> Iterable[str]:
    """The tensors that a node reads, and those that graphs inside of it read from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inner = {name for each in graph.node for name in each.output}
            inner |= {each.name for each in (*graph.input, *graph.initializer)}
            read = [name for each in graph.node for name in _read_by(each)]
            read += [each.name for each in graph.output]
            yield from (name for name in read if name not in inner)
