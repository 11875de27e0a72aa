"""The operators of TFLite, float or with 8-bit weights; see ``to_tflite`` for why these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters import side_by_side
from vitedge.converters.tflite_model import TFLiteModel
from vitedge.quantize import IntegerWeight, Recipe
from vitedge.spec import Activation, NormKind, Precision
from vitedge.vit import Array, Linear, Norm, ViT
from vitedge.walk import Walk

# FULLY_CONNECTED reads per-channel int8 weights under float inputs since this version.
_HYBRID_PER_CHANNEL = 12
# DEQUANTIZE reads float16 since this version.
_DEQUANTIZE_FLOAT16 = 3

# What is put beside each patch for its range; eight, because kernels read so many inputs at once.
_RANGE_COLUMNS = 8


class TFLiteEmitter(Walk[int]):
    """The steps as TFLite operators; values are the numbers of tensors."""

    tokens_are_rows = True

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        super().__init__(vit, batch)
        self.recipe = recipe
        self.model = TFLiteModel()
        self._shared_integers: dict[tuple[int, ...], int] = {}

    def emit(self) -> int:
        """Writes all operators into ``model`` and returns the logits."""
        shape = (self.batch, *self.config.image_size, self.config.channels)
        return self.walk(self.model.input("pixels", shape))

    def scale_pixels(self, pixels: int, factor: Array, offset: Array) -> int:
        """See ``Walk``."""
        factors, offsets = (
            self.constant("pixels.factor", factor),
            self.constant("pixels.offset", offset),
        )
        scaled = self._binary("MUL", pixels, factors, "pixels/scaled")
        return self._binary("ADD", scaled, offsets, "pixels/shifted")

    def patches(self, pixels: int) -> int:
        """A convolution with stride = patch, which reads the image in place; or see below."""
        config, vit = self.config, self.vit
        if "patch" in self.recipe.weights:
            return self._integer_patches(pixels)
        (height, width), (rows, columns) = config.patch_size, config.grid
        shape = (config.dim, height, width, config.channels)
        kernel = self._weight(vit.patch.weight.T.reshape(shape), "patch.weight")
        patches = self.model.operator(
            "CONV_2D",
            [pixels, kernel, self.constant("patch.bias", vit.patch.bias)],
            (self.batch, rows, columns, config.dim),
            name="patch",
            options={"table": "Conv2DOptions", "padding": 1, "strideH": height, "strideW": width},
        )
        return self.reshape(patches, (self.batch, config.patches, config.dim), "patches")

    def _integer_patches(self, pixels: int) -> int:
        """The projection as a linear layer on pixels that stay exact integers.

        A FULLY_CONNECTED of 8 bits takes the range of each row when it runs. A few numbers at the
        end of what the recipe has for a range, beside each patch and with weights of zero, make
        that the range of every row: 0..255 in steps of one.
        """
        config, batch = self.config, self.batch
        height, (rows, columns) = config.patch_size[0], config.grid
        patches, integers = batch * config.patches, self.recipe.weights["patch"]
        inputs, outputs = integers.values.shape
        x = self.reshape(pixels, (batch * rows, height, columns, inputs // height), "patches/cut")
        x = self.transpose(x, (0, 2, 1, 3), "patches/sorted")
        x = self.reshape(x, (patches, inputs), "patches/rows")
        ends = np.full((patches, _RANGE_COLUMNS), self.recipe.inputs["patch"].high, np.float32)
        x = self.concatenate([x, self.constant("patches/ends", ends)], "patches/ranged")
        unread = np.zeros((_RANGE_COLUMNS, outputs), np.int8)
        weight = replace(integers, values=np.concatenate([integers.values, unread]))
        projected = self._integer_product(x, weight, self.vit.patch.bias, "patch")
        return self.reshape(projected, (batch, config.patches, outputs), "patches")

    def split_heads(
        self, joined: int, names: Sequence[str], block_name: str, tokens: int
    ) -> list[int]:
        """One transposition for all, then a split of whole heads, which are contiguous."""
        config = self.config
        label = f"{block_name}/{''.join(names)}"
        shape = (self.batch, tokens, len(names) * config.heads, config.head_dim)
        split = self.reshape(joined, shape, f"{label}/heads")
        split = self.transpose(split, (0, 2, 1, 3), f"{label}/by_head")
        if len(names) == 1:
            return [split]
        return self.model.operator_many(
            "SPLIT",
            [self._integers((1,), scalar=True), split],
            [(self.batch, config.heads, tokens, config.head_dim)] * len(names),
            [f"{block_name}/{name}" for name in names],
            {"table": "SplitOptions", "numSplits": len(names)},
        )

    def attend(self, q: int, k: int, v: int, queries: int, name: str) -> int:
        """Two batched products and a softmax between them."""
        config = self.config
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
        return self.model.operator(
            "BATCH_MATMUL",
            [shares, v],
            (self.batch, config.heads, queries, config.head_dim),
            name=f"{name}/mixed",
            options={"table": "BatchMatMulOptions"},
        )

    # --- layers

    def linears(self, layers: dict[str, Linear], x: int) -> int:
        """One FULLY_CONNECTED of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        if isinstance(weight, IntegerWeight):
            return self._integer_product(x, weight, bias, name)
        stored = self._weight(weight.T, f"{name}.weight")
        return self.model.operator(
            "FULLY_CONNECTED",
            [x, stored, self.constant(f"{name}.bias", bias)],
            (self.model.shape(x)[0], len(bias)),
            name=name,
            options={"table": "FullyConnectedOptions"},
        )

    def _integer_product(self, x: int, integers: IntegerWeight, bias: Array, name: str) -> int:
        """A linear layer whose input is quantized row by row when it runs."""
        return self.model.operator(
            "FULLY_CONNECTED",
            [x, self.model.weight(f"{name}.weight", integers), self.constant(f"{name}.bias", bias)],
            (self.model.shape(x)[0], integers.values.shape[1]),
            name=name,
            options={"table": "FullyConnectedOptions", "asymmetricQuantizeInputs": True},
            version=_HYBRID_PER_CHANNEL,
        )

    def norm(self, norm: Norm, x: int, name: str, kind: NormKind) -> int:
        """See ``Walk``."""
        shape = self.model.shape(x)
        row = (*shape[:-1], 1)
        last = len(shape) - 1
        if kind is NormKind.LAYER:
            mean = self._reduce_mean(x, last, row, f"{name}/mean")
            x = self._binary("SUB", x, mean, f"{name}/centred")
        square = self._binary("MUL", x, x, f"{name}/square")
        variance = self._reduce_mean(square, last, row, f"{name}/variance")
        eps = self.constant(f"{name}/eps", np.asarray([norm.eps], np.float32))
        variance = self._binary("ADD", variance, eps, f"{name}/variance_eps")
        inverse = self.model.operator("RSQRT", [variance], row, name=f"{name}/inverse")
        x = self._binary("MUL", x, inverse, name)
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self._binary("MUL", x, gamma, f"{name}/scaled")
        if np.any(norm.beta != 0):
            beta = self.constant(f"{name}.beta", norm.beta)
            x = self._binary("ADD", x, beta, f"{name}/shifted")
        return x

    def activate(self, x: int, activation: Activation, name: str) -> int:
        """See ``Walk``."""
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
            "MUL", x, self.constant(f"{name}/by", np.asarray([factor], np.float32)), name
        )

    def _reduce_mean(
        self, x: int, axis: int, shape: Sequence[int], name: str, *, keep: bool = True
    ) -> int:
        options = {"table": "ReducerOptions", "keepDims": keep}
        return self.model.operator(
            "MEAN", [x, self._integers((axis,))], shape, name=name, options=options
        )

    def reshape(self, x: int, shape: Sequence[int], name: str) -> int:
        """See ``Walk``; the same shape costs nothing."""
        known = self.model.shape(x)
        full = tuple(int(size) for size in np.empty(known, np.bool_).reshape(shape).shape)
        if full == known:
            return x
        options = {"table": "ReshapeOptions", "newShape": np.asarray(full, np.int32)}
        return self.model.operator(
            "RESHAPE", [x, self._integers(full)], full, name=name, options=options
        )

    def transpose(self, x: int, order: tuple[int, ...], name: str) -> int:
        """See ``Walk``."""
        shape = [self.model.shape(x)[axis] for axis in order]
        options = {"table": "TransposeOptions"}
        return self.model.operator(
            "TRANSPOSE", [x, self._integers(order)], shape, name=name, options=options
        )

    def tokens_from(self, tokens: int, first: int, count: int, name: str) -> int:
        """See ``Walk``."""
        shape = (self.batch, count, self.config.dim)
        begin, size = self._integers((0, first, 0)), self._integers(shape)
        return self.model.operator(
            "SLICE", [tokens, begin, size], shape, name=name, options={"table": "SliceOptions"}
        )

    def columns(self, x: int, first: int, count: int, name: str) -> int:
        """Some neighbouring columns out of ``(batch, width)``."""
        shape = (self.batch, count)
        begin, size = self._integers((0, first)), self._integers(shape)
        return self.model.operator(
            "SLICE", [x, begin, size], shape, name=name, options={"table": "SliceOptions"}
        )

    def mean_of_tokens(self, tokens: int, name: str) -> int:
        """See ``Walk``."""
        return self._reduce_mean(tokens, 1, (self.batch, self.config.dim), name, keep=False)

    def add(self, a: int, b: int, name: str) -> int:
        """See ``Walk``."""
        return self._binary("ADD", a, b, name)

    def concatenate(self, values: list[int], name: str) -> int:
        """See ``Walk``."""
        first, *others = (self.model.shape(value) for value in values)
        length = first[1] + sum(other[1] for other in others)
        return self.model.operator(
            "CONCATENATION",
            values,
            (first[0], length, *first[2:]),
            name=name,
            options={"table": "ConcatenationOptions", "axis": 1},
        )

    # --- constants

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """See ``Walk``."""
        return self.model.constant(name, values)

    def _weight(self, values: Array, name: str) -> int:
        """A float weight: stored in half but in fp32 files, and widened when the file is loaded.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        return self.model.operator(
            "DEQUANTIZE",
            [self.constant(f"{name}/float16", values.astype(np.float16))],
            values.shape,
            name=name,
            options={"table": "DequantizeOptions"},
            version=_DEQUANTIZE_FLOAT16,
        )

    def _integers(self, values: tuple[int, ...], *, scalar: bool = False) -> int:
        """An int32 constant, shared between all operators that use the same."""
        key = (-1, *values) if scalar else values
        if key not in self._shared_integers:
            array = np.asarray(values, np.int32)
            shaped = array.reshape(()) if scalar else array
            name = f"integers/{'_'.join(map(str, key))}"
            self._shared_integers[key] = self.constant(name, shaped)
        return self._shared_integers[key]
