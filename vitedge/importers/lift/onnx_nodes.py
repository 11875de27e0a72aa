"""Rules for each ONNX operator on tensors whose values lie anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitedge.errors import NotAViTError
from vitedge.importers.lift.draft import Draft, Tensor
from vitedge.importers.lift.onnx_arithmetic import ARITHMETIC
from vitedge.importers.lift.onnx_call import Call
from vitedge.importers.lift.onnx_images import IMAGES
from vitedge.importers.lift.onnx_moves import MOVES

if TYPE_CHECKING:
    import onnx

_RULES = MOVES | ARITHMETIC | IMAGES


def translated(
    draft: Draft, node: onnx.NodeProto, inputs: Sequence[Tensor | None], opset: int
) -> list[Tensor]:
    """The outputs of a node.

    Raises:
        NotAViTError: Nobody knows the operator; the message has its name.
    """
    from onnx import helper

    rule = _RULES.get(node.op_type)
    if node.op_type == "Attention":  # see onnx_fused
        raise NotAViTError(
            "has a causal or computed mask, a cache, groups of heads or a soft cap, of which "
            "vitedge reads none"
        )
    if rule is None or node.domain not in ("", "ai.onnx"):
        raise NotAViTError("computes nothing that a vision transformer has")
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    text = {name: each.decode() for name, each in attributes.items() if isinstance(each, bytes)}
    call = Call(draft, node.op_type, tuple(inputs), attributes | text, opset)
    made = rule(call)
    return list(made) if isinstance(made, list | tuple) else [made]  # type: ignore[list-item]
