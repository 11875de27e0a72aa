"""The nodes of ONNX, float or with 8-bit products; see ``to_onnx`` for why these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters import packed_nibbles, side_by_side
from vitedge.quantize import IntegerWeight, Range, Recipe
from vitedge.spec import Activation, NormKind, Precision
from vitedge.vit import Array, Linear, Norm, ViT
from vitedge.walk import Walk

# Opset 20 has Gelu; IR 9 is what its release of ONNX writes. ONNX Runtime 1.17 and later read both.
_OPSET = 20
_IR_VERSION = 9
# The first with 4-bit integers and scales for groups of them. ONNX Runtime 1.20 reads both.
_OPSET_OF_INT4, _IR_OF_INT4 = 21, 10


class OnnxEmitter(Walk[str]):
    """The steps as ONNX nodes; values are the names of tensors."""

    tokens_are_rows = True

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        super().__init__(vit, batch)
        self.recipe = recipe
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def emit(self) -> Any:
        """The finished model."""
        from onnx import TensorProto

        self._node("Identity", [self.walk("pixels")], "logits")
        return self._model(TensorProto.FLOAT, TensorProto.FLOAT, *self._versions())

    def emit_with_features(self, features: int) -> Any:
        """The finished model; the head's last outputs, so many of them, get an output apart."""
        from onnx import TensorProto, helper

        head = self.walk("pixels")
        classes = self.config.classes - features
        sizes = self._integers("outputs/sizes", (classes, features))
        self._node_many("Split", [head, sizes], ["logits", "features"], "outputs", axis=1)
        model = self._model(TensorProto.FLOAT, TensorProto.FLOAT, *self._versions())
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
        model.graph.output.append(
            helper.make_tensor_value_info("features", TensorProto.FLOAT, (self.batch, features))
        )
        return model

    def _versions(self) -> tuple[int, int]:
        """Opset and IR version: the oldest that have what is used."""
        if self.recipe.precision is Precision.INT4:
            return _OPSET_OF_INT4, _IR_OF_INT4
        return _OPSET, _IR_VERSION

    def _model(self, taken: int, given: int, opset: int, ir_version: int) -> Any:
        """The nodes so far as a model; dtypes are those of pixels and logits."""
        from onnx import helper

        config, batch = self.config, self.batch
        pixels, logits = (batch, *config.image_size, config.channels), (batch, config.classes)
        graph = helper.make_graph(
            self._nodes,
            "vision_transformer",
            [helper.make_tensor_value_info("pixels", taken, pixels)],
            [helper.make_tensor_value_info("logits", given, logits)],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph,
            producer_name="vitedge",
            ir_version=ir_version,
            opset_imports=[helper.make_opsetid("", opset)],
        )

    def scale_pixels(self, pixels: str, factor: Array, offset: Array) -> str:
        """See ``Walk``."""
        scaled = self._node(
            "Mul", [pixels, self.constant("pixels.factor", factor)], "pixels/scaled"
        )
        return self._node("Add", [scaled, self.constant("pixels.offset", offset)], "pixels/shifted")

    def patches(self, pixels: str) -> str:
        """Rows of a patch are contiguous in NHWC, so cutting patches is one copy."""
        config, batch = self.config, self.batch
        (height, width), (rows, columns) = config.patch_size, config.grid
        cut = (batch, rows, height, columns, width * config.channels)
        x = self.reshape(pixels, cut, "patches/cut")
        x = self.transpose(x, (0, 1, 3, 2, 4), "patches/sorted")
        x = self.reshape(x, (batch * config.patches, len(self.vit.patch.weight)), "patches")
        x = self.linears({"patch": self.vit.patch}, x)
        return self.reshape(x, (batch, config.patches, config.dim), "patch/tokens")

    def split_heads(
        self, joined: str, names: Sequence[str], block_name: str, tokens: int
    ) -> list[str]:
        """A split of columns, then a transposition each."""
        config = self.config
        parts = [joined]
        if len(names) > 1:
            parts = [f"{block_name}/{name}" for name in names]
            label = "+".join(parts)
            self._node_many("Split", [joined], parts, label, axis=1, num_outputs=len(parts))
        shape = (self.batch, tokens, config.heads, config.head_dim)
        heads = []
        for name, part in zip(names, parts, strict=True):
            split = self.reshape(part, shape, f"{block_name}/{name}/heads")
            heads.append(self.transpose(split, (0, 2, 1, 3), f"{block_name}/{name}/by_head"))
        return heads

    def attend(self, q: str, k: str, v: str, queries: int, name: str) -> str:
        """MatMul, Softmax, MatMul, which ONNX Runtime fuses itself."""
        scale = self.config.attention_scale
        k = self.transpose(k, (0, 1, 3, 2), f"{name}/k_columns")
        scores = self._node("MatMul", [q, k], f"{name}/scores")
        if scale != 1.0:
            scores = self._scale(scores, scale, f"{name}/scaled")
        shares = self._node("Softmax", [scores], f"{name}/softmax", axis=-1)
        return self._node("MatMul", [shares, v], f"{name}/mixed")

    # --- layers

    def linears(self, layers: dict[str, Linear], x: str) -> str:
        """One matrix product of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        if isinstance(weight, IntegerWeight) and weight.bits == 8:
            return self._int8_product(x, next(iter(layers)), weight, bias, name)
        store = f"{name}.weight"
        stored = (
            self._grouped(store, weight)
            if isinstance(weight, IntegerWeight)
            else self._in_half(store, weight)
        )
        return self._node("Gemm", [x, stored, self.constant(f"{name}.bias", bias)], name)

    def _int8_product(
        self, x: str, first: str, weight: IntegerWeight, bias: Array, name: str
    ) -> str:
        """A product of integers; how ``x`` becomes some, the recipe says of the first layer."""
        static, floor = self.recipe.inputs.get(first), self.recipe.token_scaled.get(first)
        if static is not None and floor is not None:
            return self._token_scaled_product(x, weight, static, floor, bias, name)
        if static is not None:
            return self._static_product(x, weight, static, bias, name)
        return self._dynamic_product(x, weight, bias, name)

    def _static_product(
        self, x: str, weight: IntegerWeight, covered: Range, bias: Array, name: str
    ) -> str:
        """Standard Q/DQ around a Gemm whose output stays float.

        ONNX Runtime makes one QGemm of it, if the bias is an integer too: int32 in steps of both
        scales' product.
        """
        step, zero = covered.scale_and_zero_point()
        scale = self.constant(f"{name}.x_scale", np.asarray(step, np.float32))
        zero_point = self.constant(f"{name}.x_zero", np.asarray(zero, np.uint8))
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
            self.constant(f"{name}/integers", values),
            self.constant(f"{name}/scale", scale),
            self.constant(f"{name}/zero", zeros),
        ]
        return self._node("DequantizeLinear", inputs, name, axis=axis)

    def _grouped(self, name: str, weight: IntegerWeight) -> str:
        """4-bit weights, which ONNX Runtime multiplies as they are (MatMulNBits)."""
        inputs = [
            self._nibbles(f"{name}/integers", weight.values),
            self._in_half(f"{name}/scale", weight.scale),
        ]
        if weight.zero is not None:
            inputs.append(self._nibbles(f"{name}/zero", weight.zero))
        return self._node("DequantizeLinear", inputs, name, axis=0, block_size=weight.group)

    def _nibbles(self, name: str, values: npt.NDArray[np.int8]) -> str:
        """A constant of 4-bit integers."""
        from onnx import TensorProto, helper

        packed = packed_nibbles(values).tobytes()
        self._constants[name] = helper.make_tensor(
            name, TensorProto.INT4, values.shape, packed, raw=True
        )
        return name

    def _token_scaled_product(
        self,
        x: str,
        weight: IntegerWeight,
        covered: Range,
        floor: float,
        bias: Array,
        name: str,
    ) -> str:
        """Each token over its largest magnitude is quantized, and the product multiplied by it."""
        least = self.constant(f"{name}/floor", np.asarray(floor, np.float32))
        axes = self._integers("last_axis", (-1,))
        size = self._node("Abs", [x], f"{name}/size")
        largest = self._node("ReduceMax", [size, axes], f"{name}/largest", keepdims=1)
        largest = self._node("Max", [largest, least], f"{name}/divisor")
        step, zero = covered.scale_and_zero_point()
        x_scale = self.constant(f"{name}.x_scale", np.asarray(step, np.float32))
        x_zero = self.constant(f"{name}.x_zero", np.asarray(zero, np.uint8))
        quotient = self._node("Div", [x, largest], f"{name}/quotient")
        quantized = self._node("QuantizeLinear", [quotient, x_scale, x_zero], f"{name}/quantized")
        product = self._integer_product(quantized, weight, x_scale, x_zero, name)
        product = self._node("Mul", [product, largest], f"{name}/scaled_back")
        return self._node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def _dynamic_product(self, x: str, weight: IntegerWeight, bias: Array, name: str) -> str:
        """One uint8 scale per tensor, when it runs; ONNX Runtime fuses all but the first node."""
        quantized, x_scale, x_zero = self._node_many(
            "DynamicQuantizeLinear",
            [x],
            [f"{name}/quantized", f"{name}/x_scale", f"{name}/x_zero"],
            f"{name}/quantize",
        )
        product = self._integer_product(quantized, weight, x_scale, x_zero, name)
        return self._node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def _integer_product(
        self, quantized: str, weight: IntegerWeight, x_scale: str, x_zero: str, name: str
    ) -> str:
        """MatMulInteger and what makes floats of it, which ONNX Runtime fuses."""
        values = self.constant(f"{name}.weight", weight.values)
        zeros = self.constant(f"{name}.weight_zero", np.zeros(len(weight.scale), np.int8))
        integers = self._node(
            "MatMulInteger", [quantized, values, x_zero, zeros], f"{name}/integers"
        )
        wide = self._node("Cast", [integers], f"{name}/wide", to=1)
        scale = self.constant(f"{name}.scale", weight.scale)
        scales = self._node("Mul", [x_scale, scale], f"{name}/scales")
        return self._node("Mul", [wide, scales], f"{name}/product")

    def norm(self, norm: Norm, x: str, name: str, kind: NormKind) -> str:
        """See ``Walk``."""
        gamma = self.constant(f"{name}.gamma", norm.gamma)
        if kind is NormKind.LAYER:
            inputs = [x, gamma]
            if np.any(norm.beta != 0):
                inputs.append(self.constant(f"{name}.beta", norm.beta))
            return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)
        square = self._node("Mul", [x, x], f"{name}/square")
        axes = self._integers("last_axis", (-1,))
        mean = self._node("ReduceMean", [square, axes], f"{name}/mean_square", keepdims=1)
        eps = self.constant(f"{name}.eps", np.asarray([norm.eps], np.float32))
        root = self._node("Sqrt", [self._node("Add", [mean, eps], f"{name}/eps")], f"{name}/root")
        x = self._node("Div", [x, root], f"{name}/normed")
        if not np.all(norm.gamma == 1):
            x = self._node("Mul", [x, gamma], f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._node("Add", [x, self.constant(f"{name}.beta", norm.beta)], f"{name}/shifted")
        return x

    def activate(self, x: str, activation: Activation, name: str) -> str:
        """See ``Walk``."""
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
        self._add(operator, inputs, outputs, name, **attributes)
        return outputs

    def _add(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        **attributes: Any,
    ) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))

    def _scale(self, x: str, factor: float, name: str) -> str:
        return self._node(
            "Mul", [x, self.constant(f"{name}/by", np.asarray([factor], np.float32))], name
        )

    def reshape(self, x: str, shape: tuple[int, ...], name: str) -> str:
        """See ``Walk``."""
        return self._node("Reshape", [x, self._integers(f"{name}/shape", shape)], name)

    def transpose(self, x: str, order: tuple[int, ...], name: str) -> str:
        """See ``Walk``."""
        return self._node("Transpose", [x], name, perm=order)

    def add(self, a: str, b: str, name: str) -> str:
        """See ``Walk``."""
        return self._node("Add", [a, b], name)

    def concatenate(self, values: list[str], name: str) -> str:
        """See ``Walk``."""
        return self._node("Concat", values, name, axis=1)

    def mean_of_tokens(self, tokens: str, name: str) -> str:
        """See ``Walk``."""
        axes = self._integers("token_axis", (1,))
        return self._node("ReduceMean", [tokens, axes], name, keepdims=0)

    def tokens_from(self, tokens: str, first: int, count: int, name: str) -> str:
        """See ``Walk``."""
        begin, end = (first,), (first + count,)
        inputs = [self._integers(f"{name}/from", begin), self._integers(f"{name}/to", end)]
        return self._node("Slice", [tokens, *inputs, self._integers("token_axis", (1,))], name)

    # --- constants

    def _in_half(self, name: str, values: Array) -> str:
        """Float weights, or scales of 4-bit ones, stored in half but in fp32 files.

        Widened when the session is made. So it is in int8 files, for the layers that stay float
        there. Biases and positions are float32 everywhere: they weigh nothing and meet the residual
        stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        half = self.constant(f"{name}/float16", values.astype(np.float16))
        return self._node("Cast", [half], name, to=1)

    def _integers(self, name: str, values: tuple[int, ...]) -> str:
        return self.constant(name, np.asarray(values, np.int64))

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """See ``Walk``."""
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name
