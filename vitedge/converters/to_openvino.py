"""OpenVINO: the graph that its CPU plug-in fuses whole, from its own operators.

* Tokens are ``(batch, tokens, dim)``. As a matrix they would be as fast, but OpenVINO 2026.4 then
  crashes while it compiles: one of its fusions of small linear layers (dim up to 256, fewer than
  four tokens, followed by a residual sum) reads past two dimensions.
* LayerNorm is one MVN, attention is MatMul, Softmax, MatMul on static shapes.
* int8: a FakeQuantize with the calibrated range stands before each linear layer, and its weight is
  int8 with one scale per output channel; the plug-in makes one integer kernel of it. Everything
  between linear layers stays float (bfloat16 where the processor has it).
* fp16: weights are stored in half and widened when the model is compiled.
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

_LEVELS = 256


@dataclass(frozen=True)
class OpenVINOConverter:
    """Writes ``.xml`` files with their ``.bin``."""

    format: Format = Format.OPENVINO
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    activations: Activations = Activations.STATIC

    def convert(self, vit: ViT, recipe: Recipe, *, batch: int = 1) -> OpenVINODraft:
        """See ``Converter``."""
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise missing_package("openvino", "convert") from error
        if not vit.config.raw_pixels:
            raise ConversionError("the input normalisation is not folded; apply the rewrites first")
        dynamic = sorted(set(recipe.weights) - set(recipe.inputs))
        if dynamic:
            raise ConversionError(f"OpenVINO needs a calibrated input range for {dynamic[0]}")
        return OpenVINODraft(_Emitter(vit, recipe, batch).emit())


@dataclass(frozen=True)
class OpenVINODraft:
    """A finished graph; see ``Draft``."""

    model: Any

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import openvino

        self.model.set_rt_info(metadata.to_json(), [METADATA_KEY])
        try:
            openvino.serialize(self.model, path, path.with_suffix(".bin"))
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO cannot write '{path}': {error}") from error


class _Emitter:
    """Walks a ViT and builds its nodes; method names mirror ``vitedge.vit``.

    Nodes carry the names of the ViT's parts, so that a profile reads in the model's own words.
    """

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        from openvino import opset13

        self.vit, self.recipe, self.batch = vit, recipe, batch
        self.config = vit.config
        self._ops: Any = opset13
        self._numbered = 0

    def emit(self) -> Any:
        import openvino

        config, batch = self.config, self.batch
        shape = (batch, *config.image_size, config.channels)
        pixels = self._ops.parameter(shape, np.float32, name="pixels")
        pixels.output(0).get_tensor().set_names({"pixels"})
        x = self._embed(pixels)
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
        result = self._ops.result(logits, name="logits")
        logits.output(0).get_tensor().set_names({"logits"})
        return openvino.Model([result], [pixels], "vision_transformer")

    # --- parts of the network

    def _embed(self, pixels: Any) -> Any:
        config, vit, batch = self.config, self.vit, self.batch
        (height, width), (rows, columns) = config.patch_size, config.grid
        # Rows of a patch are contiguous in NHWC, so cutting patches is one copy.
        cut = (batch, rows, height, columns, width * config.channels)
        x = self._reshape(pixels, cut, "patches/cut")
        x = self._transpose(x, (0, 1, 3, 2, 4), "patches/sorted")
        x = self._reshape(x, (batch, config.patches, vit.patch.weight.shape[0]), "patches")
        x = self._linear(vit.patch, x, "patch")
        x = self._ops.add(x, self._constant("positions", vit.positions), name="embedded")
        if config.prefix_tokens:
            prefix = np.broadcast_to(vit.prefix, (batch, *vit.prefix.shape))
            x = self._ops.concat([self._constant("prefix", prefix), x], 1, name="tokens")
        if vit.input_norm is not None:
            x = self._norm(vit.input_norm, x, "input_norm", config.norm_kind)
        return x

    def _block(self, block: Block, x: Any, name: str, queries: int) -> Any:
        kind = self.config.norm_kind
        pre = self.config.norm_position is NormPosition.PRE
        normed = self._norm(block.norm1, x, f"{name}.norm1", kind) if pre else x
        mixed = self._attention(block, normed, name, queries)
        kept = (
            x if queries == self.config.tokens else self._tokens_from(x, 0, queries, f"{name}/kept")
        )
        x = self._ops.add(kept, mixed, name=f"{name}/attended")
        if not pre:
            x = self._norm(block.norm1, x, f"{name}.norm1", kind)
        normed = self._norm(block.norm2, x, f"{name}.norm2", kind) if pre else x
        hidden = self._linear(block.fc1, normed, f"{name}.fc1")
        hidden = self._activate(hidden, self.config.activation, f"{name}.fc1")
        x = self._ops.add(x, self._linear(block.fc2, hidden, f"{name}.fc2"), name=f"{name}/out")
        return x if pre else self._norm(block.norm2, x, f"{name}.norm2", kind)

    def _attention(self, block: Block, x: Any, name: str, queries: int) -> Any:
        config = self.config
        if queries == config.tokens:
            q, k, v = self._projected_heads(block, ("q", "k", "v"), x, name, queries)
        else:
            few = self._tokens_from(x, 0, queries, f"{name}/pooled")
            (q,) = self._projected_heads(block, ("q",), few, name, queries)
            k, v = self._projected_heads(block, ("k", "v"), x, name, config.tokens)
        if block.q_norm is not None:
            q = self._norm(block.q_norm, q, f"{name}.q_norm", NormKind.LAYER)
        if block.k_norm is not None:
            k = self._norm(block.k_norm, k, f"{name}.k_norm", NormKind.LAYER)
        scores = self._ops.matmul(q, k, False, True, name=f"{name}/scores")
        if config.attention_scale != 1.0:
            scores = self._scale(scores, config.attention_scale, f"{name}/scaled")
        shares = self._ops.softmax(scores, 3, name=f"{name}/softmax")
        mixed = self._ops.matmul(shares, v, False, False, name=f"{name}/mixed")
        joined = self._transpose(mixed, (0, 2, 1, 3), f"{name}/joined")
        rows = (self.batch, queries, config.attention_dim)
        return self._linear(block.out, self._reshape(joined, rows, f"{name}/heads"), f"{name}.out")

    def _projected_heads(
        self, block: Block, names: Sequence[str], x: Any, block_name: str, tokens: int
    ) -> list[Any]:
        """Several of q, k, v by one matrix product, each ``(batch, heads, tokens, head_dim)``."""
        config = self.config
        joined = self._linears({f"{block_name}.{name}": getattr(block, name) for name in names}, x)
        parts = [joined]
        if len(names) > 1:
            axis = self._constant(f"{block_name}/axis", np.asarray(2, np.int64))
            label = f"{block_name}/{''.join(names)}"
            parts = self._ops.split(joined, axis, len(names), name=label).outputs()
        shape = (self.batch, tokens, config.heads, config.head_dim)
        heads = []
        for name, part in zip(names, parts, strict=True):
            split = self._reshape(part, shape, f"{block_name}/{name}/heads")
            heads.append(self._transpose(split, (0, 2, 1, 3), f"{block_name}/{name}/by_head"))
        return heads

    def _pool(self, x: Any) -> Any:
        """Tokens ``(batch, tokens, dim)`` to ``(batch, pooled_dim)``."""
        config, batch = self.config, self.batch
        if config.pooled_queries_only or config.pooling is Pooling.FLATTEN:
            return self._reshape(x, (batch, config.pooled_dim), "pooled")
        parts = []
        if config.pooled_prefix:
            few = self._tokens_from(x, 0, config.pooled_prefix, "pooled/prefix")
            shape = (batch, config.pooled_prefix * config.dim)
            parts.append(self._reshape(few, shape, "pooled/class"))
        if config.pooling in (Pooling.MEAN, Pooling.CLASS_AND_MEAN):
            patches = self._tokens_from(x, config.prefix_tokens, config.patches, "pooled/all")
            mean = self._ops.reduce_mean(patches, self._integers((1,)), False, name="pooled/mean")
            parts.append(mean)
        return parts[0] if len(parts) == 1 else self._ops.concat(parts, 1, name="pooled")

    # --- layers

    def _linear(self, layer: Linear, x: Any, name: str) -> Any:
        return self._linears({name: layer}, x)

    def _linears(self, layers: dict[str, Linear], x: Any) -> Any:
        """One matrix product of several linear layers side by side on the same input."""
        name = "+".join(layers)
        bias = np.concatenate([layer.bias for layer in layers.values()])
        integers = side_by_side([self.recipe.weights.get(each) for each in layers])
        if integers is None:
            matrix = np.concatenate([layer.weight for layer in layers.values()], axis=1)
            weight = self._weight(f"{name}.weight", matrix.T)
        else:
            x = self._quantized(x, self.recipe.inputs[next(iter(layers))], name)
            weight = self._integer_weight(integers, name)
        product = self._ops.matmul(x, weight, False, True, name=f"{name}/product")
        return self._ops.add(product, self._constant(f"{name}.bias", bias), name=name)

    def _quantized(self, x: Any, covered: Range, name: str) -> Any:
        # Move the ends so that real 0 is one of the levels, as the recipe's zero point says.
        scale, zero = covered.scale_and_zero_point(_LEVELS)
        low = self._scalar(f"{name}/low", -zero * scale)
        high = self._scalar(f"{name}/high", (_LEVELS - 1 - zero) * scale)
        return self._ops.fake_quantize(x, low, high, low, high, _LEVELS, name=f"{name}/quantized")

    def _integer_weight(self, weight: IntegerWeight, name: str) -> Any:
        stored = self._constant(f"{name}.weight/int8", np.ascontiguousarray(weight.values.T))
        wide = self._ops.convert(stored, np.float32, name=f"{name}.weight/wide")
        scale = self._constant(f"{name}.weight/scale", weight.scale[:, None])
        return self._ops.multiply(wide, scale, name=f"{name}.weight")

    def _norm(self, norm: Norm, x: Any, name: str, kind: NormKind) -> Any:
        if kind is NormKind.LAYER:
            axes = self._integers((-1,))
            x = self._ops.mvn(x, axes, True, norm.eps, "INSIDE_SQRT", name=name)
        else:
            x = self._root_mean_square_normed(x, norm.eps, name)
        if not np.all(norm.gamma == 1):
            gamma = self._constant(f"{name}.gamma", norm.gamma)
            x = self._ops.multiply(x, gamma, name=f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._ops.add(x, self._constant(f"{name}.beta", norm.beta), name=f"{name}/shifted")
        return x

    def _root_mean_square_normed(self, x: Any, eps: float, name: str) -> Any:
        square = self._ops.multiply(x, x, name=f"{name}/square")
        mean = self._ops.reduce_mean(square, self._integers((-1,)), True, name=f"{name}/mean")
        shifted = self._ops.add(mean, self._scalar(f"{name}/eps", eps), name=f"{name}/shifted")
        return self._ops.divide(x, self._ops.sqrt(shifted, name=f"{name}/root"), name=name)

    def _activate(self, x: Any, activation: Activation, name: str) -> Any:
        label = f"{name}/{activation}"
        match activation:
            case Activation.GELU:
                return self._ops.gelu(x, "erf", name=label)
            case Activation.GELU_TANH:
                return self._ops.gelu(x, "tanh", name=label)
            case Activation.QUICK_GELU:
                # Swish with beta: x sigmoid(beta x).
                return self._ops.swish(x, self._scalar(f"{label}/beta", 1.702), name=label)
            case Activation.RELU:
                return self._ops.relu(x, name=label)
            case Activation.SILU:
                return self._ops.swish(x, name=label)
            case Activation.TANH:
                return self._ops.tanh(x, name=label)

    # --- single nodes

    def _scale(self, x: Any, factor: float, name: str) -> Any:
        return self._ops.multiply(x, self._scalar(f"{name}/by", factor), name=name)

    def _reshape(self, x: Any, shape: tuple[int, ...], name: str) -> Any:
        return self._ops.reshape(x, self._integers(shape), False, name=name)

    def _transpose(self, x: Any, order: tuple[int, ...], name: str) -> Any:
        return self._ops.transpose(x, self._integers(order), name=name)

    def _tokens_from(self, tokens: Any, first: int, count: int, name: str) -> Any:
        begin, end = self._integers((first,)), self._integers((first + count,))
        one = self._integers((1,))
        return self._ops.slice(tokens, begin, end, one, one, name=name)

    # --- constants

    def _weight(self, name: str, values: Array) -> Any:
        """A float weight: stored in half but in fp32 files, and widened when the model is compiled.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self._constant(name, values)
        half = self._constant(f"{name}/float16", values.astype(np.float16))
        widened = self._ops.convert(half, np.float32, name=name)
        # The mark by which OpenVINO knows a compressed weight, and keeps it so when it saves.
        widened.get_rt_info()["decompression"] = ""
        return widened

    # Every constant has a name: OpenVINO would number the others through the whole process, and
    # the same model would not give the same file twice.

    def _integers(self, values: tuple[int, ...]) -> Any:
        self._numbered += 1
        return self._constant(f"integers/{self._numbered}", np.asarray(values, np.int64))

    def _scalar(self, name: str, value: float) -> Any:
        return self._constant(name, np.asarray(value, np.float32))

    def _constant(self, name: str, values: npt.NDArray[Any]) -> Any:
        return self._ops.constant(np.asarray(values, order="C"), name=name)


PLUGIN = OpenVINOConverter()
