"""Fused operators of ONNX graphs, written out in standard ones.

ONNX Runtime's optimizer and its exporters fuse what it has kernels for (``com.microsoft``), and
opset 23 has an Attention of its own. One operator with the whole of an attention inside shows
nothing to the lifting, and other engines do not know it. Each rule here writes one operator out, or
leaves it as it is where its inputs say more than the rule knows.

The operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import onnx

_Attributes: TypeAlias = Mapping[str, Any]

_MICROSOFT = "com.microsoft"
_SCORE_BIAS = 5
"""The input of Microsoft's attentions that is added to the scores."""


def write_out(model: onnx.ModelProto) -> bool:
    """Replaces fused operators, in place.

    Returns:
        Whether there was one.
    """
    constants = {item.name: item for item in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    read |= {item.name for item in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in model.graph.node:
        rule = _RULES.get((node.domain, node.op_type))
        writer = _Writer(node, constants, read)
        if rule is not None and rule(writer):
            nodes += writer.nodes
            model.graph.initializer.extend(writer.made)
            changed = True
        else:
            nodes.append(node)
    if changed:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return changed


class _Writer:
    """Writes the nodes that take the place of one."""

    def __init__(
        self, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], read: set[str]
    ) -> None:
        import onnx

        self.nodes: list[onnx.NodeProto] = []
        self.made: list[onnx.TensorProto] = []
        self.inputs = list(node.input)
        self.attributes = {
            each.name: onnx.helper.get_attribute_value(each) for each in node.attribute
        }
        self.outputs = [name if name in read else "" for name in node.output]
        self._constants, self._name = constants, node.name or node.output[0]

    def input(self, index: int) -> str:
        """The name of an input, empty when it was left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def has_only(
        self, inputs: int, outputs: Sequence[int] = (0,), more: Sequence[int] = ()
    ) -> bool:
        """Whether nothing is given beyond these inputs and read beyond these outputs.

        Args:
            inputs: So many of the first inputs may be given.
            outputs: The outputs that may be read.
            more: Further inputs that may be given.
        """
        given = any(
            name for index, name in enumerate(self.inputs) if index >= inputs and index not in more
        )
        return not given and not any(
            name for index, name in enumerate(self.outputs) if index not in outputs
        )

    def constant(self, values: Any) -> str:
        """A new constant."""
        import onnx

        name = f"{self._name} constant {len(self.made)}"
        self.made.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def known(self, name: str) -> Any:
        """The values of a constant, or None for what is none."""
        import onnx

        item = self._constants.get(name)
        return None if item is None else onnx.numpy_helper.to_array(item)

    def add(
        self, kind: str, inputs: Sequence[str], output: str = "", count: int = 1, **attributes: Any
    ) -> Any:
        """A node; returns its output's name, or the names of several."""
        import onnx

        stem = f"{self._name} {kind} {len(self.nodes)}"
        names = [output or f"{stem}.{index}" for index in range(count)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), names, stem, **attributes))
        return names[0] if count == 1 else names

    def finish(self, value: str, index: int = 0) -> bool:
        """Gives a value the name of the node's output."""
        if self.outputs[index]:
            self.add("Identity", [value], self.outputs[index])
        return True


def _attention(writer: _Writer, q: str, k: str, v: str, bias: str = "") -> str:
    """Attention of tensors ``(batch, heads, tokens, channels)``, its scores plus a bias."""
    scale = writer.attributes.get("scale", 0.0)
    if scale:
        scaled = writer.add("Mul", [q, writer.constant(np.float32(scale))])
    else:
        shape = writer.add("Shape", [q])
        width = writer.add("Gather", [shape, writer.constant(np.int64(3))], axis=0)
        root = writer.add("Sqrt", [writer.add("Cast", [width], to=1)])
        scaled = writer.add("Div", [q, root])
    turned = writer.add("Transpose", [k], perm=[0, 1, 3, 2])
    scores = writer.add("MatMul", [scaled, turned])
    if bias:
        scores = writer.add("Add", [scores, bias])
    weights = writer.add("Softmax", [scores], axis=-1)
    return str(writer.add("MatMul", [weights, v]))


def _in_heads(writer: _Writer, value: str, heads: int) -> str:
    """``(batch, tokens, heads * channels)`` as ``(batch, heads, tokens, channels)``."""
    shape = writer.constant(np.asarray([0, 0, heads, -1], np.int64))
    return str(writer.add("Transpose", [writer.add("Reshape", [value, shape])], perm=[0, 2, 1, 3]))


def _joined(writer: _Writer, value: str) -> str:
    shape = writer.constant(np.asarray([0, 0, -1], np.int64))
    turned = writer.add("Transpose", [value], perm=[0, 2, 1, 3])
    return str(writer.add("Reshape", [turned, shape]))


def _standard_attention(writer: _Writer) -> bool:
    """Attention of opset 23, without cache; its mask is a constant of the file."""
    given = writer.attributes
    odd = given.get("is_causal", 0) or given.get("softcap", 0.0)
    heads, groups = given.get("q_num_heads", 0), given.get("kv_num_heads", 0)
    bias, mask = writer.input(3), writer.known(writer.input(3))
    if odd or heads != groups or not writer.has_only(4) or (bias and mask is None):
        return False
    if mask is not None and mask.dtype == bool:
        bias = writer.constant(np.where(mask, np.float32(0), np.float32(-np.inf)))
    values = writer.inputs[:3]
    if heads:
        values = [_in_heads(writer, value, heads) for value in values]
    result = _attention(writer, values[0], values[1], values[2], bias)
    return writer.finish(_joined(writer, result) if heads else result)


def _packed_attention(writer: _Writer) -> bool:
    """Microsoft's Attention: one product for queries, keys and values."""
    given = writer.attributes
    weight = writer.known(writer.input(1))
    odd = given.get("unidirectional", 0) or given.get("do_rotary", 0)
    if odd or weight is None or not writer.has_only(3, more=(_SCORE_BIAS,)):
        return False
    sizes = given.get("qkv_hidden_sizes") or [weight.shape[1] // 3] * 3
    if sum(sizes) != weight.shape[1]:
        return False
    product = writer.add("MatMul", writer.inputs[:2])
    if writer.input(2):
        product = writer.add("Add", [product, writer.input(2)])
    split = writer.constant(np.asarray(sizes, np.int64))
    parts = writer.add("Split", [product, split], count=3, axis=-1)
    q, k, v = (_in_heads(writer, part, given["num_heads"]) for part in parts)
    return writer.finish(_joined(writer, _attention(writer, q, k, v, writer.input(_SCORE_BIAS))))


def _multi_head_attention(writer: _Writer) -> bool:
    """Microsoft's MultiHeadAttention of three tensors, whose bias is one constant."""
    given = writer.attributes
    bias = writer.known(writer.input(3))
    unknown_bias = bool(writer.input(3)) and bias is None
    if given.get("unidirectional", 0) or unknown_bias or not all(writer.inputs[:3]):
        return False
    if len(writer.inputs) < 3 or not writer.has_only(4, more=(_SCORE_BIAS,)):
        return False
    values = writer.inputs[:3]
    if bias is not None:
        if len(bias) % 3:
            return False
        parts = np.split(bias, 3)
        values = [
            writer.add("Add", [value, writer.constant(part)])
            for value, part in zip(values, parts, strict=True)
        ]
    q, k, v = (_in_heads(writer, value, given["num_heads"]) for value in values)
    return writer.finish(_joined(writer, _attention(writer, q, k, v, writer.input(_SCORE_BIAS))))


def _product(writer: _Writer) -> bool:
    """FusedMatMul: transposed operands and a factor."""
    given = writer.attributes
    left = "ji" if given.get("transA", 0) else "ij"
    right = "kj" if given.get("transB", 0) else "jk"
    # An operand whose batch is transposed has its rows before all batch axes.
    left = f"{left[0]}...{left[1]}" if given.get("transBatchA", 0) else f"...{left}"
    right = f"{right[0]}...{right[1]}" if given.get("transBatchB", 0) else f"...{right}"
    result = writer.add("Einsum", writer.inputs[:2], equation=f"{left},{right}->...ik")
    alpha = given.get("alpha", 1.0)
    if alpha != 1.0:
        result = writer.add("Mul", [result, writer.constant(np.float32(alpha))])
    return writer.finish(result)


def _fused_layer(kind: str) -> Callable[[_Writer], bool]:
    """FusedGemm and FusedConv: an activation without parameters behind the layer."""

    def rule(writer: _Writer) -> bool:
        given = dict(writer.attributes)
        activation = given.pop("activation", b"").decode()
        inputs = 2 if kind == "MatMul" else 3
        if activation not in ("Relu", "Tanh", "Sigmoid") or not writer.has_only(inputs):
            return False
        for name in (
            "activation_alpha",
            "activation_beta",
            "activation_gamma",
            "activation_params",
        ):
            given.pop(name, None)
        layer = writer.add(kind, writer.inputs, **given)
        return writer.finish(writer.add(activation, [layer]))

    return rule


def _gelu(writer: _Writer, value: str) -> str:
    root = writer.constant(np.float32(math.sqrt(2)))
    error = writer.add("Erf", [writer.add("Div", [value, root])])
    grown = writer.add("Add", [error, writer.constant(np.float32(1))])
    halved = writer.add("Mul", [value, writer.constant(np.float32(0.5))])
    return str(writer.add("Mul", [halved, grown]))


def _biased(writer: _Writer) -> str:
    return str(writer.add("Add", writer.inputs[:2]) if writer.input(1) else writer.input(0))


def _gelu_of_sum(writer: _Writer) -> bool:
    return writer.finish(_gelu(writer, _biased(writer)))


def _fast_gelu(writer: _Writer) -> bool:
    value = _biased(writer)
    cube = writer.add("Mul", [value, writer.add("Mul", [value, value])])
    third = writer.add("Mul", [cube, writer.constant(np.float32(0.044715))])
    inner = writer.add("Add", [value, third])
    factor = writer.constant(np.float32(math.sqrt(2 / math.pi)))
    curve = writer.add("Tanh", [writer.add("Mul", [inner, factor])])
    grown = writer.add("Add", [curve, writer.constant(np.float32(1))])
    halved = writer.add("Mul", [value, writer.constant(np.float32(0.5))])
    return writer.finish(writer.add("Mul", [halved, grown]))


def _quick_gelu(writer: _Writer) -> bool:
    alpha = writer.constant(np.float32(writer.attributes.get("alpha", 1.702)))
    gate = writer.add("Sigmoid", [writer.add("Mul", [writer.input(0), alpha])])
    return writer.finish(writer.add("Mul", [writer.input(0), gate]))


def _skip_norm(kind: str, vectors: int) -> Callable[[_Writer], bool]:
    """A sum and its norm in one; the sum may be read, too."""

    def rule(writer: _Writer) -> bool:
        if not writer.has_only(3 + vectors, (0, 3)):
            return False
        total = writer.add("Add", writer.inputs[:2])
        if writer.input(2 + vectors):
            total = writer.add("Add", [total, writer.input(2 + vectors)])
        norm = writer.inputs[2 : 2 + vectors]
        eps = writer.attributes.get("epsilon", 1e-12)
        writer.finish(writer.add(kind, [total, *norm], axis=-1, epsilon=eps))
        return writer.finish(total, 3) if len(writer.outputs) > 3 else True

    return rule


_RULES: Mapping[tuple[str, str], Callable[[_Writer], bool]] = {
    ("", "Attention"): _standard_attention,
    (_MICROSOFT, "Attention"): _packed_attention,
    (_MICROSOFT, "MultiHeadAttention"): _multi_head_attention,
    (_MICROSOFT, "FusedMatMul"): _product,
    (_MICROSOFT, "TransposeMatMul"): _product,
    (_MICROSOFT, "FusedGemm"): _fused_layer("Gemm"),
    (_MICROSOFT, "FusedConv"): _fused_layer("Conv"),
    (_MICROSOFT, "Gelu"): _gelu_of_sum,
    (_MICROSOFT, "BiasGelu"): _gelu_of_sum,
    (_MICROSOFT, "FastGelu"): _fast_gelu,
    (_MICROSOFT, "QuickGelu"): _quick_gelu,
    (_MICROSOFT, "SkipLayerNormalization"): _skip_norm("LayerNormalization", 2),
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_norm("SimplifiedLayerNormalization", 1),
}
