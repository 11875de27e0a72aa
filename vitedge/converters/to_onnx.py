"""ONNX: the graph that ONNX Runtime's CPU kernels run fastest, in standard operators only.

* Tokens are a matrix ``(batch * tokens, dim)``; q, k and v are one product. Attention is plain
  MatMul and Softmax, which ONNX Runtime fuses itself: its fused attention operators were slower.
* int8: the input of a linear layer is quantized when it runs (DynamicQuantizeLinear, one uint8
  scale per tensor) or with a calibrated range (QuantizeLinear), as the recipe says, and multiplied
  as integers; everything between linear layers stays float.
* fp16: weights are stored in half and widened once, when the session is made. ONNX Runtime's CPU
  has few float16 kernels, so computing in half would only add casts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifact import METADATA_KEY, Metadata
from vitedge.converters import side_by_side
from vitedge.errors import ConversionError, missing_package
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.spec import Activation, Format, NormKind, NormPosition, Pooling, Precision
from vitedge.vit import Array, Block, Linear, Norm, ViT

# Opset 20 has Gelu; IR 9 is what its release of ONNX writes. ONNX Runtime 1.17 and later read both.
_OPSET = 20
_IR_VERSION = 9

# A protobuf message ends at 2 GiB; weights beyond that lie in a file beside the model.
_PROTOBUF_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class OnnxConverter:
    """Writes ``.onnx`` files."""

    format: Format = Format.ONNX
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    activations: Activations = Activations.PER_TENSOR

    def convert(self, vit: ViT, recipe: Recipe, *, batch: int = 1) -> OnnxDraft:
        """See ``Converter``."""
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise missing_package("onnx", "convert") from error
        if not vit.config.raw_pixels:
            raise ConversionError("the input normalisation is not folded; apply the rewrites first")
        return OnnxDraft(_Emitter(vit, recipe, batch).emit())


@dataclass(frozen=True)
class OnnxDraft:
    """A finished graph; see ``Draft``."""

    model: Any

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import onnx

        if self.model.ByteSize() > _PROTOBUF_LIMIT - (1 << 20):
            raise ConversionError(
                f"an ONNX file of {self.model.ByteSize() / 2**30:.1f} GiB is over protobuf's limit "
                "of 2 GiB; convert with --fp16 or --int8"
            )
        finished = onnx.ModelProto()
        finished.CopyFrom(self.model)
        finished.metadata_props.add(key=METADATA_KEY, value=metadata.to_json())
        path.write_bytes(finished.SerializeToString())


class _Emitter:
    """Walks a ViT and writes its nodes down; method names mirror ``vitedge.vit``.

    Values are the names of tensors. Names of nodes are those of the ViT's parts, so that a profile
    or an error message reads in the model's own words.
    """

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        self.vit, self.recipe, self.batch = vit, recipe, batch
        self.config = vit.config
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def emit(self) -> Any:
        from onnx import TensorProto, helper

        config, batch = self.config, self.batch
        x = self._embed("pixels")
        for index, block in enumerate(self.vit.blocks):
            last = index == config.depth - 1
            queries = config.pooled_prefix if config.pooled_queries_only and last else config.tokens
            x = self._block(block, x, f"blocks.{index}", queries)
        if self.vit.norm is not None:
            x = self._norm(self.vit.norm, x, "norm", config.norm_kind)
        pooled = self._pool(x)
        if self.vit.pooled_norm is not None:
            parts = self._reshape(pooled, (-1, config.dim), "pooled/parts")
            normed = self._norm(self.vit.pooled_norm, parts, "pooled_norm", config.norm_kind)
            pooled = self._reshape(normed, (batch, config.pooled_dim), "pooled/normed")
        for index, layer in enumerate(self.vit.head_hidden):
            hidden = self._linear(layer, pooled, f"head_hidden.{index}")
            pooled = self._activate(hidden, config.head_activation, f"head_hidden.{index}")
        logits = self._linear(self.vit.head, pooled, "head")
        self._node("Identity", [logits], "logits")
        graph = helper.make_graph(
            self._nodes,
            "vision_transformer",
            [
                helper.make_tensor_value_info(
                    "pixels", TensorProto.FLOAT, (batch, *config.image_size, config.channels)
                )
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, config.classes))],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph,
            producer_name="vitedge",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )

    # --- parts of the network

    def _embed(self, pixels: str) -> str:
        config, vit, batch = self.config, self.vit, self.batch
        (height, width), (rows, columns) = config.patch_size, config.grid
        # Rows of a patch are contiguous in NHWC, so cutting patches is one copy.
        cut = (batch, rows, height, columns, width * config.channels)
        x = self._reshape(pixels, cut, "patches/cut")
        x = self._transpose(x, (0, 1, 3, 2, 4), "patches/sorted")
        x = self._reshape(x, (batch * config.patches, vit.patch.weight.shape[0]), "patches")
        x = self._linear(vit.patch, x, "patch")
        x = self._reshape(x, (batch, config.patches, config.dim), "patch/tokens")
        x = self._node("Add", [x, self._constant("positions", vit.positions)], "embedded")
        if config.prefix_tokens:
            prefix = np.broadcast_to(vit.prefix, (batch, *vit.prefix.shape))
            x = self._node("Concat", [self._constant("prefix", prefix), x], "tokens", axis=1)
        x = self._reshape(x, (batch * config.tokens, config.dim), "stream")
        if vit.input_norm is not None:
            x = self._norm(vit.input_norm, x, "input_norm", config.norm_kind)
        return x

    def _block(self, block: Block, x: str, name: str, queries: int) -> str:
        kind = self.config.norm_kind
        pre = self.config.norm_position is NormPosition.PRE
        normed = self._norm(block.norm1, x, f"{name}.norm1", kind) if pre else x
        mixed = self._attention(block, normed, name, queries)
        kept = x if queries == self.config.tokens else self._leading(x, queries, f"{name}/kept")
        x = self._node("Add", [kept, mixed], f"{name}/attended")
        if not pre:
            x = self._norm(block.norm1, x, f"{name}.norm1", kind)
        normed = self._norm(block.norm2, x, f"{name}.norm2", kind) if pre else x
        hidden = self._linear(block.fc1, normed, f"{name}.fc1")
        hidden = self._activate(hidden, self.config.activation, f"{name}.fc1")
        x = self._node("Add", [x, self._linear(block.fc2, hidden, f"{name}.fc2")], f"{name}/out")
        return x if pre else self._norm(block.norm2, x, f"{name}.norm2", kind)

    def _attention(self, block: Block, x: str, name: str, queries: int) -> str:
        config = self.config
        if queries == config.tokens:
            q, k, v = self._projected_heads(block, ("q", "k", "v"), x, name, queries)
        else:
            few = self._leading(x, queries, f"{name}/pooled")
            (q,) = self._projected_heads(block, ("q",), few, name, queries)
            k, v = self._projected_heads(block, ("k", "v"), x, name, config.tokens)
        if block.q_norm is not None:
            q = self._norm(block.q_norm, q, f"{name}.q_norm", NormKind.LAYER)
        if block.k_norm is not None:
            k = self._norm(block.k_norm, k, f"{name}.k_norm", NormKind.LAYER)
        k = self._transpose(k, (0, 1, 3, 2), f"{name}/k_columns")
        scores = self._node("MatMul", [q, k], f"{name}/scores")
        if config.attention_scale != 1.0:
            scores = self._scale(scores, config.attention_scale, f"{name}/scaled")
        shares = self._node("Softmax", [scores], f"{name}/softmax", axis=-1)
        mixed = self._node("MatMul", [shares, v], f"{name}/mixed")
        joined = self._transpose(mixed, (0, 2, 1, 3), f"{name}/joined")
        rows = (self.batch * queries, config.attention_dim)
        return self._linear(block.out, self._reshape(joined, rows, f"{name}/heads"), f"{name}.out")

    def _projected_heads(
        self, block: Block, names: Sequence[str], x: str, block_name: str, tokens: int
    ) -> list[str]:
        """Several of q, k, v by one matrix product, each ``(batch, heads, tokens, head_dim)``."""
        config = self.config
        joined = self._linears({f"{block_name}.{name}": getattr(block, name) for name in names}, x)
        parts = [joined]
        if len(names) > 1:
            parts = [f"{block_name}/{name}" for name in names]
            self._split(joined, parts)
        shape = (self.batch, tokens, config.heads, config.head_dim)
        heads = []
        for name, part in zip(names, parts, strict=True):
            split = self._reshape(part, shape, f"{block_name}/{name}/heads")
            heads.append(self._transpose(split, (0, 2, 1, 3), f"{block_name}/{name}/by_head"))
        return heads

    def _pool(self, x: str) -> str:
        """Tokens ``(batch * tokens, dim)`` to ``(batch, pooled_dim)``."""
        config, batch = self.config, self.batch
        if config.pooled_queries_only or config.pooling is Pooling.FLATTEN:
            return self._reshape(x, (batch, config.pooled_dim), "pooled")
        tokens = self._reshape(x, (batch, config.tokens, config.dim), "pooled/tokens")
        parts = []
        if config.pooled_prefix:
            few = self._tokens_from(tokens, 0, config.pooled_prefix, "pooled/prefix")
            shape = (batch, config.pooled_prefix * config.dim)
            parts.append(self._reshape(few, shape, "pooled/class"))
        if config.pooling in (Pooling.MEAN, Pooling.CLASS_AND_MEAN):
            patches = self._tokens_from(tokens, config.prefix_tokens, config.patches, "pooled/all")
            axes = self._integers("pooled/axis", (1,))
            mean = self._node("ReduceMean", [patches, axes], "pooled/mean", keepdims=0)
            parts.append(mean)
        return parts[0] if len(parts) == 1 else self._node("Concat", parts, "pooled", axis=1)

    # --- layers

    def _linear(self, layer: Linear, x: str, name: str) -> str:
        return self._linears({name: layer}, x)

    def _linears(self, layers: dict[str, Linear], x: str) -> str:
        """One matrix product of several linear layers side by side on the same input."""
        name = "+".join(layers)
        bias = np.concatenate([layer.bias for layer in layers.values()])
        integers = side_by_side([self.recipe.weights.get(each) for each in layers])
        if integers is None:
            matrix = np.concatenate([layer.weight for layer in layers.values()], axis=1)
            weight = self._weight(f"{name}.weight", matrix)
            return self._node("Gemm", [x, weight, self._constant(f"{name}.bias", bias)], name)
        static = self.recipe.inputs.get(next(iter(layers)))
        if static is not None:
            return self._static_product(x, integers, static, bias, name)
        return self._dynamic_product(x, integers, bias, name)

    def _static_product(
        self, x: str, weight: IntegerWeight, covered: Range, bias: Array, name: str
    ) -> str:
        """Standard Q/DQ around a Gemm whose output stays float.

        ONNX Runtime makes one QGemm of it, if the bias is an integer too: int32 in steps of both
        scales' product.
        """
        step, zero = covered.scale_and_zero_point()
        scale = self._constant(f"{name}.x_scale", np.asarray(step, np.float32))
        zero_point = self._constant(f"{name}.x_zero", np.asarray(zero, np.uint8))
        quantized = self._node("QuantizeLinear", [x, scale, zero_point], f"{name}/quantized")
        steps = np.float32(step) * weight.scale
        limits = np.iinfo(np.int32)
        whole = np.rint(bias / steps.astype(np.float64)).clip(limits.min, limits.max)
        inputs = [
            self._node("DequantizeLinear", [quantized, scale, zero_point], f"{name}/input"),
            self._dequantized(f"{name}.weight", weight.values, weight.scale, axis=1),
            self._dequantized(f"{name}.bias", whole.astype(np.int32), steps, axis=0),
        ]
        return self._node("Gemm", inputs, name)

    def _dequantized(self, name: str, values: npt.NDArray[Any], scale: Array, *, axis: int) -> str:
        zeros = np.zeros(len(scale), values.dtype)
        inputs = [
            self._constant(f"{name}/integers", values),
            self._constant(f"{name}/scale", scale),
            self._constant(f"{name}/zero", zeros),
        ]
        return self._node("DequantizeLinear", inputs, name, axis=axis)

    def _dynamic_product(self, x: str, weight: IntegerWeight, bias: Array, name: str) -> str:
        """One uint8 scale per tensor, when it runs; ONNX Runtime fuses all but the first node."""
        quantized, x_scale, x_zero = self._node_many(
            "DynamicQuantizeLinear",
            [x],
            [f"{name}/quantized", f"{name}/x_scale", f"{name}/x_zero"],
            f"{name}/quantize",
        )
        values = self._constant(f"{name}.weight", weight.values)
        zeros = self._constant(f"{name}.weight_zero", np.zeros(len(weight.scale), np.int8))
        integers = self._node(
            "MatMulInteger", [quantized, values, x_zero, zeros], f"{name}/integers"
        )
        wide = self._node("Cast", [integers], f"{name}/wide", to=1)
        scale = self._constant(f"{name}.scale", weight.scale)
        scales = self._node("Mul", [x_scale, scale], f"{name}/scales")
        product = self._node("Mul", [wide, scales], f"{name}/product")
        return self._node("Add", [product, self._constant(f"{name}.bias", bias)], name)

    def _norm(self, norm: Norm, x: str, name: str, kind: NormKind) -> str:
        gamma = self._constant(f"{name}.gamma", norm.gamma)
        if kind is NormKind.LAYER:
            inputs = [x, gamma]
            if np.any(norm.beta != 0):
                inputs.append(self._constant(f"{name}.beta", norm.beta))
            return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)
        square = self._node("Mul", [x, x], f"{name}/square")
        axes = self._integers("last_axis", (-1,))
        mean = self._node("ReduceMean", [square, axes], f"{name}/mean_square", keepdims=1)
        eps = self._constant(f"{name}.eps", np.asarray([norm.eps], np.float32))
        root = self._node("Sqrt", [self._node("Add", [mean, eps], f"{name}/eps")], f"{name}/root")
        x = self._node("Div", [x, root], f"{name}/normed")
        if not np.all(norm.gamma == 1):
            x = self._node("Mul", [x, gamma], f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._node("Add", [x, self._constant(f"{name}.beta", norm.beta)], f"{name}/shifted")
        return x

    def _activate(self, x: str, activation: Activation, name: str) -> str:
        label = f"{name}/{activation}"
        match activation:
            case Activation.GELU:
                return self._node("Gelu", [x], label)
            case Activation.GELU_TANH:
                return self._node("Gelu", [x], label, approximate="tanh")
            case Activation.RELU:
                return self._node("Relu", [x], label)
            case Activation.TANH:
                return self._node("Tanh", [x], label)
            case Activation.QUICK_GELU | Activation.SILU:
                inner = x
                if activation is Activation.QUICK_GELU:
                    inner = self._scale(x, 1.702, f"{label}/scaled")
                return self._node(
                    "Mul", [x, self._node("Sigmoid", [inner], f"{label}/gate")], label
                )

    # --- single nodes

    def _node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds a node with one output, which is named like the node, and returns that name."""
        return self._node_many(operator, inputs, [name], name, **attributes)[0]

    def _node_many(
        self, operator: str, inputs: Sequence[str], outputs: list[str], name: str, **attributes: Any
    ) -> list[str]:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def _scale(self, x: str, factor: float, name: str) -> str:
        return self._node(
            "Mul", [x, self._constant(f"{name}/by", np.asarray([factor], np.float32))], name
        )

    def _reshape(self, x: str, shape: tuple[int, ...], name: str) -> str:
        return self._node("Reshape", [x, self._integers(f"{name}/shape", shape)], name)

    def _transpose(self, x: str, order: tuple[int, ...], name: str) -> str:
        return self._node("Transpose", [x], name, perm=order)

    def _split(self, x: str, parts: list[str]) -> None:
        self._node_many("Split", [x], parts, "+".join(parts), axis=1, num_outputs=len(parts))

    def _leading(self, x: str, queries: int, name: str) -> str:
        """The first tokens of each image, from and to matrices of tokens."""
        config = self.config
        tokens = self._reshape(x, (self.batch, config.tokens, config.dim), f"{name}/tokens")
        few = self._tokens_from(tokens, 0, queries, name)
        return self._reshape(few, (self.batch * queries, config.dim), f"{name}/rows")

    def _tokens_from(self, tokens: str, first: int, count: int, name: str) -> str:
        begin, end = (first,), (first + count,)
        inputs = [self._integers(f"{name}/from", begin), self._integers(f"{name}/to", end)]
        return self._node("Slice", [tokens, *inputs, self._integers("token_axis", (1,))], name)

    # --- constants

    def _weight(self, name: str, values: Array) -> str:
        """A float weight: stored in half but in fp32 files, and widened when the session is made.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self._constant(name, values)
        half = self._constant(f"{name}/float16", values.astype(np.float16))
        return self._node("Cast", [half], name, to=1)

    def _integers(self, name: str, values: tuple[int, ...]) -> str:
        return self._constant(name, np.asarray(values, np.int64))

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name


PLUGIN = OnnxConverter()
