"""TFLite: the graph that XNNPACK runs fastest, and that GPU delegates accept.

* Tokens are a matrix ``(batch * tokens, dim)``, so that each linear layer is one FULLY_CONNECTED
  with its bias; q, k and v are one.
* A norm without gamma and beta (they are folded into the next linear layer) is five operators.
  No NEG, which the stock lowering of LayerNorm has and delegates refuse.
* int8: FULLY_CONNECTED with float input and int8 weights runs as per-token dynamic int8 in XNNPACK.
* No tensor has more than four dimensions, and no slice drops one (GPU delegates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitedge.artifact import Metadata
from vitedge.converters import side_by_side
from vitedge.converters.tflite_model import TFLiteModel
from vitedge.errors import ConversionError
from vitedge.quantize import Activations, Recipe
from vitedge.spec import Activation, Format, NormKind, NormPosition, Pooling, Precision
from vitedge.vit import Array, Block, Linear, Norm, ViT

# FULLY_CONNECTED reads per-channel int8 weights under float inputs since this version.
_HYBRID_PER_CHANNEL = 12
# CONV_2D does since this one.
_HYBRID_CONVOLUTION = 5
# DEQUANTIZE reads float16 since this version.
_DEQUANTIZE_FLOAT16 = 3


@dataclass(frozen=True)
class TFLiteConverter:
    """Writes ``.tflite`` files."""

    format: Format = Format.TFLITE
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    activations: Activations = Activations.PER_TOKEN

    def convert(self, vit: ViT, recipe: Recipe, *, batch: int = 1) -> TFLiteDraft:
        """See ``Converter``."""
        if not vit.config.raw_pixels:
            raise ConversionError("the input normalisation is not folded; apply the rewrites first")
        emitter = _Emitter(vit, recipe, batch)
        return TFLiteDraft(emitter.model, emitter.emit())


@dataclass(frozen=True)
class TFLiteDraft:
    """A finished graph; see ``Draft``."""

    model: TFLiteModel
    output: int

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        description = f"Vision Transformer {metadata.source.name}, {metadata.precision}, by vitedge"
        path.write_bytes(self.model.to_bytes(self.output, description, metadata.to_json()))


class _Emitter:
    """Walks a ViT and writes its operators down; method names mirror ``vitedge.vit``."""

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        self.vit, self.recipe, self.batch = vit, recipe, batch
        self.config = vit.config
        self.model = TFLiteModel()
        self._shapes: dict[tuple[int, ...], int] = {}

    def emit(self) -> int:
        config, batch = self.config, self.batch
        pixels = self.model.input("pixels", (batch, *config.image_size, config.channels))
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
        return self._linear(self.vit.head, pooled, "head")

    # --- parts of the network

    def _embed(self, pixels: int) -> int:
        config, vit = self.config, self.vit
        (height, width), (rows, columns) = config.patch_size, config.grid
        shape = (config.dim, height, width, config.channels)
        integers = self.recipe.weights.get("patch")
        if integers is None:
            kernel = self._weight(vit.patch.weight.T.reshape(shape), "patch.weight")
        else:
            kernel = self.model.weight("patch.weight", integers, shape)
        # A convolution with stride = patch reads the image in place.
        patches = self.model.operator(
            "CONV_2D",
            [pixels, kernel, self.model.constant("patch.bias", vit.patch.bias)],
            (self.batch, rows, columns, config.dim),
            name="patch",
            options={"table": "Conv2DOptions", "padding": 1, "strideH": height, "strideW": width},
            version=1 if integers is None else _HYBRID_CONVOLUTION,
        )
        tokens = self._reshape(patches, (self.batch, config.patches, config.dim), "patches")
        positions = self.model.constant("positions", vit.positions[None])
        tokens = self._binary("ADD", tokens, positions, "embedded")
        if config.prefix_tokens:
            prefix = np.broadcast_to(vit.prefix, (self.batch, *vit.prefix.shape))
            tokens = self.model.operator(
                "CONCATENATION",
                [self.model.constant("prefix", prefix), tokens],
                (self.batch, config.tokens, config.dim),
                name="tokens",
                options={"table": "ConcatenationOptions", "axis": 1},
            )
        x = self._reshape(tokens, (self.batch * config.tokens, config.dim), "stream")
        if vit.input_norm is not None:
            x = self._norm(vit.input_norm, x, "input_norm", config.norm_kind)
        return x

    def _block(self, block: Block, x: int, name: str, queries: int) -> int:
        kind = self.config.norm_kind
        pre = self.config.norm_position is NormPosition.PRE
        normed = self._norm(block.norm1, x, f"{name}.norm1", kind) if pre else x
        mixed = self._attention(block, normed, name, queries)
        kept = x if queries == self.config.tokens else self._leading(x, queries, f"{name}/kept")
        x = self._binary("ADD", kept, mixed, f"{name}/attended")
        if not pre:
            x = self._norm(block.norm1, x, f"{name}.norm1", kind)
        normed = self._norm(block.norm2, x, f"{name}.norm2", kind) if pre else x
        hidden = self._linear(block.fc1, normed, f"{name}.fc1")
        hidden = self._activate(hidden, self.config.activation, f"{name}.fc1")
        x = self._binary("ADD", x, self._linear(block.fc2, hidden, f"{name}.fc2"), f"{name}/out")
        return x if pre else self._norm(block.norm2, x, f"{name}.norm2", kind)

    def _attention(self, block: Block, x: int, name: str, queries: int) -> int:
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
        shape = (self.batch, config.heads, queries, config.tokens)
        scores = self.model.operator(
            "BATCH_MATMUL",
            [q, k],
            shape,
            name=f"{name}/scores",
            options={"table": "BatchMatMulOptions", "adjY": True},
        )
        if config.attention_scale != 1.0:
            scores = self._scale(scores, config.attention_scale, f"{name}/scaled")
        shares = self.model.operator(
            "SOFTMAX",
            [scores],
            shape,
            name=f"{name}/softmax",
            options={"table": "SoftmaxOptions", "beta": 1.0},
        )
        mixed = self.model.operator(
            "BATCH_MATMUL",
            [shares, v],
            (self.batch, config.heads, queries, config.head_dim),
            name=f"{name}/mixed",
            options={"table": "BatchMatMulOptions"},
        )
        joined = self._transpose(mixed, (0, 2, 1, 3), f"{name}/joined")
        joined = self._reshape(
            joined, (self.batch * queries, config.attention_dim), f"{name}/heads"
        )
        return self._linear(block.out, joined, f"{name}.out")

    def _projected_heads(
        self, block: Block, names: Sequence[str], x: int, block_name: str, tokens: int
    ) -> list[int]:
        """Several of q, k, v by one matrix product, each ``(batch, heads, tokens, head_dim)``."""
        config = self.config
        layers = {f"{block_name}.{name}": getattr(block, name) for name in names}
        joined = self._linears(layers, x)
        label = f"{block_name}/{''.join(names)}"
        count = len(names) * config.heads
        split = self._reshape(
            joined, (self.batch, tokens, count, config.head_dim), f"{label}/heads"
        )
        split = self._transpose(split, (0, 2, 1, 3), f"{label}/by_head")
        if len(names) == 1:
            return [split]
        return self.model.operator_many(
            "SPLIT",
            [self._integers((1,), scalar=True), split],
            [(self.batch, config.heads, tokens, config.head_dim)] * len(names),
            [f"{block_name}/{name}" for name in names],
            {"table": "SplitOptions", "numSplits": len(names)},
        )

    def _pool(self, x: int) -> int:
        """Tokens ``(batch * tokens, dim)`` to ``(batch, pooled_dim)``."""
        config, batch = self.config, self.batch
        if config.pooled_queries_only:
            return self._reshape(x, (batch, config.pooled_dim), "pooled")
        tokens = self._reshape(x, (batch, config.tokens, config.dim), "pooled/tokens")
        match config.pooling:
            case Pooling.FLATTEN:
                return self._reshape(tokens, (batch, config.pooled_dim), "pooled")
            case Pooling.CLASS | Pooling.DISTILLED:
                few = self._tokens_from(tokens, 0, config.pooled_prefix, "pooled/prefix")
                return self._reshape(few, (batch, config.pooled_dim), "pooled")
            case Pooling.MEAN:
                return self._mean_of_patches(tokens)
            case Pooling.CLASS_AND_MEAN:
                first = self._tokens_from(tokens, 0, 1, "pooled/first")
                first = self._reshape(first, (batch, config.dim), "pooled/class")
                return self.model.operator(
                    "CONCATENATION",
                    [first, self._mean_of_patches(tokens)],
                    (batch, config.pooled_dim),
                    name="pooled",
                    options={"table": "ConcatenationOptions", "axis": 1},
                )

    def _mean_of_patches(self, tokens: int) -> int:
        config = self.config
        patches = tokens
        if config.prefix_tokens:
            patches = self._tokens_from(
                tokens, config.prefix_tokens, config.patches, "pooled/patches"
            )
        return self._reduce_mean(patches, 1, (self.batch, config.dim), "pooled/mean", keep=False)

    # --- layers

    def _linear(self, layer: Linear, x: int, name: str) -> int:
        return self._linears({name: layer}, x)

    def _linears(self, layers: dict[str, Linear], x: int) -> int:
        """One FULLY_CONNECTED of several linear layers side by side on the same input."""
        name = "+".join(layers)
        outputs = sum(layer.weight.shape[1] for layer in layers.values())
        bias = np.concatenate([layer.bias for layer in layers.values()])
        integers = side_by_side([self.recipe.weights.get(each) for each in layers])
        if integers is not None:
            weight = self.model.weight(f"{name}.weight", integers)
        else:
            matrix = np.concatenate([layer.weight for layer in layers.values()], axis=1)
            weight = self._weight(matrix.T, f"{name}.weight")
        return self.model.operator(
            "FULLY_CONNECTED",
            [x, weight, self.model.constant(f"{name}.bias", bias)],
            (self.model.shape(x)[0], outputs),
            name=name,
            options={
                "table": "FullyConnectedOptions",
                "asymmetricQuantizeInputs": integers is not None,
            },
            version=_HYBRID_PER_CHANNEL if integers is not None else 1,
        )

    def _norm(self, norm: Norm, x: int, name: str, kind: NormKind) -> int:
        shape = self.model.shape(x)
        row = (*shape[:-1], 1)
        last = len(shape) - 1
        if kind is NormKind.LAYER:
            mean = self._reduce_mean(x, last, row, f"{name}/mean")
            x = self._binary("SUB", x, mean, f"{name}/centred")
        square = self._binary("MUL", x, x, f"{name}/square")
        variance = self._reduce_mean(square, last, row, f"{name}/variance")
        eps = self.model.constant(f"{name}/eps", np.asarray([norm.eps], np.float32))
        variance = self._binary("ADD", variance, eps, f"{name}/variance_eps")
        inverse = self.model.operator("RSQRT", [variance], row, name=f"{name}/inverse")
        x = self._binary("MUL", x, inverse, name)
        if not np.all(norm.gamma == 1):
            gamma = self.model.constant(f"{name}.gamma", norm.gamma)
            x = self._binary("MUL", x, gamma, f"{name}/scaled")
        if np.any(norm.beta != 0):
            beta = self.model.constant(f"{name}.beta", norm.beta)
            x = self._binary("ADD", x, beta, f"{name}/shifted")
        return x

    def _activate(self, x: int, activation: Activation, name: str) -> int:
        shape = self.model.shape(x)
        label = f"{name}/{activation}"
        match activation:
            case Activation.GELU | Activation.GELU_TANH:
                approximate = activation is Activation.GELU_TANH
                options = {"table": "GeluOptions", "approximate": approximate}
                return self.model.operator("GELU", [x], shape, name=label, options=options)
            case Activation.RELU:
                return self.model.operator("RELU", [x], shape, name=label)
            case Activation.TANH:
                return self.model.operator("TANH", [x], shape, name=label)
            case Activation.QUICK_GELU | Activation.SILU:
                inner = x
                if activation is Activation.QUICK_GELU:
                    inner = self._scale(x, 1.702, f"{label}/scaled")
                gate = self.model.operator("LOGISTIC", [inner], shape, name=f"{label}/gate")
                return self._binary("MUL", x, gate, label)

    # --- single operators

    def _binary(self, code: str, a: int, b: int, name: str) -> int:
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
        shape = np.broadcast_shapes(self.model.shape(a), self.model.shape(b))
        return self.model.operator(code, [a, b], shape, name=name, options={"table": table})

    def _scale(self, x: int, factor: float, name: str) -> int:
        return self._binary(
            "MUL", x, self.model.constant(f"{name}/by", np.asarray([factor], np.float32)), name
        )

    def _reduce_mean(
        self, x: int, axis: int, shape: Sequence[int], name: str, *, keep: bool = True
    ) -> int:
        options = {"table": "ReducerOptions", "keepDims": keep}
        return self.model.operator(
            "MEAN", [x, self._integers((axis,))], shape, name=name, options=options
        )

    def _reshape(self, x: int, shape: Sequence[int], name: str) -> int:
        known = self.model.shape(x)
        full = tuple(int(size) for size in np.empty(known, np.bool_).reshape(shape).shape)
        if full == known:
            return x
        options = {"table": "ReshapeOptions", "newShape": np.asarray(full, np.int32)}
        return self.model.operator(
            "RESHAPE", [x, self._integers(full)], full, name=name, options=options
        )

    def _transpose(self, x: int, order: tuple[int, ...], name: str) -> int:
        shape = [self.model.shape(x)[axis] for axis in order]
        options = {"table": "TransposeOptions"}
        return self.model.operator(
            "TRANSPOSE", [x, self._integers(order)], shape, name=name, options=options
        )

    def _leading(self, x: int, queries: int, name: str) -> int:
        """The first tokens of each image, from and to matrices of tokens."""
        config = self.config
        tokens = self._reshape(x, (self.batch, config.tokens, config.dim), f"{name}/tokens")
        few = self._tokens_from(tokens, 0, queries, name)
        return self._reshape(few, (self.batch * queries, config.dim), f"{name}/rows")

    def _tokens_from(self, tokens: int, first: int, count: int, name: str) -> int:
        shape = (self.batch, count, self.config.dim)
        begin, size = self._integers((0, first, 0)), self._integers(shape)
        return self.model.operator(
            "SLICE", [tokens, begin, size], shape, name=name, options={"table": "SliceOptions"}
        )

    # --- constants

    def _weight(self, values: Array, name: str) -> int:
        """A float weight: stored in half but in fp32 files, and widened when the file is loaded.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.model.constant(name, values)
        return self.model.operator(
            "DEQUANTIZE",
            [self.model.constant(f"{name}/float16", values.astype(np.float16))],
            values.shape,
            name=name,
            options={"table": "DequantizeOptions"},
            version=_DEQUANTIZE_FLOAT16,
        )

    def _integers(self, values: tuple[int, ...], *, scalar: bool = False) -> int:
        """An int32 constant, shared between all operators that use the same."""
        key = (-1, *values) if scalar else values
        if key not in self._shapes:
            array = np.asarray(values, np.int32)
            shaped = array.reshape(()) if scalar else array
            name = f"integers/{'_'.join(map(str, key))}"
            self._shapes[key] = self.model.constant(name, shaped)
        return self._shapes[key]


PLUGIN = TFLiteConverter()
