"""Puts the source's own last nodes behind a converted trunk, in one ONNX file.

The trunk's outputs remain outputs of the file.
"""

from __future__ import annotations

import math
from typing import Any

from vitedge.artifacts.metadata import LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY
from vitedge.converters.converter import Draft
from vitedge.converters.onnx.converter import OnnxDraft
from vitedge.converters.source_tail import Joint, Tail, tail_behind
from vitedge.errors import ConversionError, first_line

_PREFIX = "tail/"


def with_tail(draft: Draft, tail: Tail) -> OnnxDraft:
    """Appends the source's nodes to an artefact's outputs.

    Args:
        draft: The artefact of the trunk; it is left unchanged.
        tail: The nodes to append.

    Raises:
        ConversionError: The tail also reads the image directly, or trunk and tail cannot form one
            graph.
    """
    import onnx

    assert isinstance(draft, OnnxDraft)
    model = onnx.ModelProto()
    model.CopyFrom(draft.model)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    behind, joints = tail_behind(tail, batch)
    behind = _prefixed(_of_opset(behind, model))
    taken = {name for node in model.graph.node for name in node.output}
    clash = sorted(taken & {each.name for each in behind.graph.output})
    if clash:
        raise ConversionError(
            f"the tail's output '{clash[0]}' is also the name of a trunk's tensor"
        )
    for joint in joints:
        _join(model, joint)
    model.graph.node.extend(behind.graph.node)
    model.graph.initializer.extend(behind.graph.initializer)
    model.graph.output.extend(behind.graph.output)
    known = {each.domain for each in model.opset_import}
    model.opset_import.extend(each for each in behind.opset_import if each.domain not in known)
    return OnnxDraft(model)


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


def _join(model: Any, joint: Joint) -> None:
    """Turns an output of the trunk into the source's tensor: its name, shape and layout."""
    import onnx

    graph, helper, tensor = model.graph, onnx.helper, f"{_PREFIX}{joint.tensor}"
    (shown,) = (each.type.tensor_type for each in graph.output if each.name == joint.output)
    joint.demand(math.prod(each.dim_value for each in shown.shape.dim))
    made = joint.output
    if shown.elem_type != onnx.TensorProto.FLOAT:
        made = _dequantized(model, joint.output, tensor, shown.elem_type)
    if joint.is_turned:
        graph.node.append(
            helper.make_node("Transpose", [made], [tensor], f"{tensor}/turned", perm=(0, 3, 1, 2))
        )
        return
    sizes, shape = f"{tensor}/shape", list(joint.shape)
    graph.initializer.append(helper.make_tensor(sizes, onnx.TensorProto.INT64, [len(shape)], shape))
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
