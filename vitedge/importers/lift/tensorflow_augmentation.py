"""Taking augmentation and dropout out of a graph that still has them.

Keras exports a model whose augmentation layers were never told that it serves: ``RandomFlip``,
``RandomRotation``, ``RandomZoom`` and ``RandomTranslation`` then change every picture at random. In
``predict`` they leave pictures as they are, and that is what the model was measured by.
"""

from __future__ import annotations

from typing import Any

_WARPS = ("ImageProjectiveTransformV2", "ImageProjectiveTransformV3")
_CHOICES = ("Select", "SelectV2")
_SUMS = ("Add", "AddV2")


def remove_augmentation(definition: Any) -> bool:
    """Lets tensors pass, in place, where what is done to them is drawn at random.

    A warp by random numbers passes its picture; a random choice between a tensor and something that
    is made of it alone takes the tensor itself, and so does a blend of both, by which Keras 2 flips
    pictures; dropout passes what it would scale.

    Args:
        definition: A flat ``GraphDef`` in any order.

    Returns:
        Whether there was any.
    """
    nodes = {node.name: node for node in definition.node}
    drawn: set[str] = set()
    found = False
    for name in _in_order(nodes):
        node = nodes[name]
        inputs = [_node_of(each) for each in node.input]
        passed = None
        if node.op in _WARPS and inputs[0] not in drawn and inputs[1] in drawn:
            passed = node.input[0]
        elif node.op in _CHOICES and inputs[0] in drawn and drawn.isdisjoint(inputs[1:]):
            passed = _unchanged(node, inputs, nodes)
        elif node.op in _SUMS and drawn.issuperset(inputs):
            passed = _unmixed(inputs, drawn, nodes)
        if passed is not None:
            _pass_on(node, passed)
            found = True
        elif "Random" in node.op or not drawn.isdisjoint(inputs):
            drawn.add(name)
    return found


def _unchanged(node: Any, inputs: list[str], nodes: dict[str, Any]) -> str | None:
    """The one of both choices that the other is made of; of dropout, what is not dropped."""
    _, first, second = inputs
    kept = nodes[first]
    if nodes[second].op == "Const" and kept.op == "Mul":
        live = [each for each in kept.input if nodes[_node_of(each)].op != "Const"]
        return str(live[0]) if len(live) == 1 and _is_zero(nodes[second]) else None
    if _is_made_of(first, second, nodes):
        return str(node.input[2])
    return str(node.input[1]) if _is_made_of(second, first, nodes) else None


def _unmixed(parts: list[str], drawn: set[str], nodes: dict[str, Any]) -> str | None:
    """The tensor of ``share * changed + (1 - share) * tensor``, whose share is drawn."""
    shares, tensors = [], []
    for part in map(nodes.__getitem__, parts):
        names = list(map(_node_of, part.input))
        mixed = [name for name in names if name in drawn]
        if part.op != "Mul" or len(mixed) != 1:
            return None
        shares += mixed
        tensors += [tensor for tensor in part.input if _node_of(tensor) not in drawn]
    for share, rest, changed, tensor in ((*shares, *tensors), (*shares[::-1], *tensors[::-1])):
        is_rest = nodes[rest].op == "Sub" and _node_of(nodes[rest].input[1]) == share
        if is_rest and _is_made_of(_node_of(changed), _node_of(tensor), nodes):
            return str(tensor)
    return None


def _is_zero(node: Any) -> bool:
    import tensorflow as tf

    return not tf.make_ndarray(node.attr["value"].tensor).any()


def _is_made_of(name: str, other: str, nodes: dict[str, Any]) -> bool:
    seen, stack = {name}, [name]
    while stack:
        before = {_node_of(each) for each in nodes[stack.pop()].input} - seen
        seen |= before
        stack += before
    return other in seen


def _pass_on(node: Any, tensor: str) -> None:
    kind = node.attr["dtype" if node.op in _WARPS else "T"].type
    node.op = "Identity"
    node.input[:] = [tensor]
    node.attr.clear()
    node.attr["T"].type = kind


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _in_order(nodes: dict[str, Any]) -> list[str]:
    """Names, each behind its inputs."""
    order: dict[str, None] = {}
    for start in nodes:
        stack = [start]
        while stack:
            name = stack[-1]
            missing = [
                each
                for each in map(_node_of, nodes[name].input)
                if each in nodes and each not in order
            ]
            if name in order or not missing:
                order[stack.pop()] = None
            else:
                stack.extend(missing)
    return list(order)
