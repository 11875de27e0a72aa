"""Puts the source's own last nodes behind a converted trunk, in one ONNX file.

Some models end in operators that no network can hold, such as a detector's non-maximum suppression.
The part before them, the trunk, is read, rewritten and quantized by itself. The source's own nodes
follow its outputs unchanged and in float. The trunk's outputs remain outputs of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY
from vitedge.converters.converter import Draft
from vitedge.converters.onnx.converter import OnnxDraft
from vitedge.errors import ConversionError, first_line
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.onnx_files import load_onnx
from vitedge.importers.lift.onnx_probe import OnnxProbe

_PREFIX = "tail/"


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


def with_tail(draft: Draft, tail: Tail) -> OnnxDraft:
    """Appends the source's nodes to an artefact's outputs.

    Args:
        draft: The artefact of the trunk; it is left unchanged.
        tail: The nodes to append.

    Raises:
        ConversionError: The draft is not an ONNX artefact, the tail also reads the image directly,
            or trunk and tail cannot form one graph.
    """
    import onnx

    if not isinstance(draft, OnnxDraft):
        raise ConversionError(
            "only ONNX files can hold a source's own nodes; leave out --tail, or take --format onnx"
        )
    model = onnx.ModelProto()
    model.CopyFrom(draft.model)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    probe = OnnxProbe(tail.source, image_size=tail.image_size)
    shapes = probe.shapes(batch, list(tail.joints.values()))
    turned = channels_first(probe.image_shape)
    behind = _behind(tail, dict(zip(tail.joints.values(), shapes, strict=True)))
    behind = _prefixed(_of_opset(behind, model))
    taken = {name for node in model.graph.node for name in node.output}
    clash = sorted(taken & {each.name for each in behind.graph.output})
    if clash:
        raise ConversionError(
            f"the tail's output '{clash[0]}' is also the name of a trunk's tensor"
        )
    for (output, tensor), shape in zip(tail.joints.items(), shapes, strict=True):
        is_turned = turned and output in tail.maps and len(shape) == 4
        _join(model, output, f"{_PREFIX}{tensor}", shape, is_turned=is_turned)
    model.graph.node.extend(behind.graph.node)
    model.graph.initializer.extend(behind.graph.initializer)
    model.graph.output.extend(behind.graph.output)
    known = {each.domain for each in model.opset_import}
    model.opset_import.extend(each for each in behind.opset_import if each.domain not in known)
    return OnnxDraft(model)


def _behind(tail: Tail, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The part of the source that reads the joints, as a model of its own."""
    import onnx

    source = load_onnx(tail.source)
    makers = {name: node for node in source.graph.node for name in node.output if name}
    stored = {each.name: each for each in source.graph.initializer}
    if source.functions:
        raise ConversionError("a tail of ONNX functions cannot be put behind a trunk")
    joints = set(shapes)
    outputs = [each for each in source.graph.output if each.name not in joints]
    wanted, read, stack = set(), set(), [each.name for each in outputs]
    while stack:
        name = stack.pop()
        if name in read or name in joints:
            continue
        read.add(name)
        if name in makers:
            wanted.add(id(makers[name]))
            stack += _read_by(makers[name])
        elif name and name not in stored:
            words = " and ".join(f"'{each}'" for each in joints)
            raise ConversionError(
                f"the nodes behind {words} also read the image ('{name}') by another way: name "
                "the tensor that they read with --beside"
            )
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


def _of_opset(behind: Any, trunk: Any) -> Any:
    from onnx import version_converter

    old, new = (
        next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
        for model in (behind, trunk)
    )
    if old == new:
        return behind
    try:
        return version_converter.convert_version(behind, new)
    except Exception as error:  # its own kinds, without a public base
        raise ConversionError(
            f"the tail's operators of opset {old} cannot become those of opset {new}: "
            f"{first_line(error)}"
        ) from error


def _prefixed(behind: Any) -> Any:
    """The tail under names that no tensor of a trunk has; its outputs keep their names."""
    from onnx import compose

    return compose.add_prefix(behind, _PREFIX, rename_outputs=False)


def _join(model: Any, output: str, tensor: str, shape: tuple[int, ...], *, is_turned: bool) -> None:
    """Turns an output of the trunk into the source's tensor: its name, shape and layout."""
    import onnx

    graph, helper = model.graph, onnx.helper
    (shown,) = (each.type.tensor_type for each in graph.output if each.name == output)
    count = math.prod(each.dim_value for each in shown.shape.dim)
    if count != math.prod(shape):
        raise ConversionError(f"'{output}' has {count} numbers, where the tail reads {shape}")
    made = output
    if shown.elem_type != onnx.TensorProto.FLOAT:
        made = _dequantized(model, output, tensor, shown.elem_type)
    if is_turned:
        graph.node.append(
            helper.make_node("Transpose", [made], [tensor], f"{tensor}/turned", perm=(0, 3, 1, 2))
        )
        return
    sizes = f"{tensor}/shape"
    graph.initializer.append(
        helper.make_tensor(sizes, onnx.TensorProto.INT64, [len(shape)], list(shape))
    )
    graph.node.append(helper.make_node("Reshape", [made, sizes], [tensor], f"{tensor}/reshaped"))


def _dequantized(model: Any, output: str, tensor: str, kind: int) -> str:
    """Dequantizes an integer output by the scale in the file's metadata."""
    import onnx

    texts = {each.key: each.value for each in model.metadata_props}
    scale, zero = float(texts[LOGITS_SCALE_KEY]), int(texts[LOGITS_ZERO_POINT_KEY])
    names = [f"{tensor}/scale", f"{tensor}/zero"]
    kinds = (onnx.TensorProto.FLOAT, kind)
    for name, dtype, value in zip(names, kinds, (scale, zero), strict=True):
        model.graph.initializer.append(onnx.helper.make_tensor(name, dtype, [], [value]))
    made = f"{tensor}/float"
    model.graph.node.append(
        onnx.helper.make_node("DequantizeLinear", [output, *names], [made], made)
    )
    return made
