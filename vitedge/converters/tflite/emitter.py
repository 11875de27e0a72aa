"""The layers of TFLite, float or with 8-bit weights; see ``to_tflite`` for why these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vitedge.converters.emitter import part_name
from vitedge.converters.joined import side_by_side
from vitedge.converters.tflite.graph import MOST_AXES
from vitedge.converters.tflite.merging import TFLiteMerging
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.lowering import group_of
from vitedge.network.network import Value
from vitedge.network.operators import Activate, Array, Linear, Norm, Product, Standardize
from vitedge.network.patch_grid import PatchGrid
from vitedge.quantize import IntegerWeight

# FULLY_CONNECTED reads per-channel int8 weights under float inputs since this version.
_HYBRID_PER_CHANNEL = 12

# Activations that are one operator of TFLite without options.
_CODES = {
    Activation.RELU: "RELU",
    Activation.RELU6: "RELU6",
    Activation.HARD_SWISH: "HARD_SWISH",
    Activation.SIGMOID: "LOGISTIC",
    Activation.TANH: "TANH",
}

# What is put beside each patch for its range; eight, because kernels read so many inputs at once.
_RANGE_COLUMNS = 8


class TFLiteEmitter(TFLiteMerging):
    """The graph of float numbers between linear layers."""

    splits_heads = True
    convolves_patches = True

    def emit(self) -> dict[str, int]:
        """Writes all operators into ``model`` and returns the outputs by name."""
        pixels = self.model.input("pixels", (self.batch, *self.network.image_shape))
        outputs: dict[str, int] = {}
        for name, made in self.lower(pixels).items():
            lies = self.lying(made, self.shape(made), f"{name}/output")
            if lies == pixels or lies in outputs.values():  # a tensor can be one output
                lies = self.scaled(lies, 1.0, f"{name}/copy")
            outputs[name] = lies
        return outputs

    def standardize(self, value: Value, operator: Standardize, image: int) -> int:
        """See ``Steps``."""
        name = value.inputs[0].name
        mean, std = (np.asarray(each, np.float64) for each in (operator.mean, operator.std))
        factor = self.constant(f"{name}.factor", (1 / (255 * std)).astype(np.float32))
        offset = self.constant(f"{name}.offset", (-mean / std).astype(np.float32))
        scaled = self.binary("MUL", image, factor, f"{name}/scaled")
        return self.binary("ADD", scaled, offset, value.name)

    def patches(self, grid: PatchGrid, image: int) -> int:
        """A convolution with stride = patch, which reads the image in place; or see below."""
        name, layer = grid.layer.name, layer_of(grid.layer)
        if name in self.recipe.weights:
            return self._integer_patches(grid, layer, image)
        (height, width), (rows, columns) = grid.patch_size, grid.grid
        shape = (len(layer.bias), height, width, grid.image.shape[-1])
        kernel = self.weight(layer.weight.T.reshape(shape), f"{name}.weight")
        patches = self.model.operator(
            "CONV_2D",
            [image, kernel, self.constant(f"{name}.bias", layer.bias)],
            (self.batch, rows, columns, len(layer.bias)),
            name=name,
            options={"table": "Conv2DOptions", "padding": 1, "strideH": height, "strideW": width},
        )
        return self.reshape(patches, (self.batch, *grid.layer.shape), grid.moves[-1].name)

    def _integer_patches(self, grid: PatchGrid, layer: Linear, image: int) -> int:
        """The projection as a linear layer on pixels that stay exact integers.

        A FULLY_CONNECTED of 8 bits takes the range of each row when it runs. A few numbers at the
        end of what the recipe has for a range, beside each patch and with weights of zero, make
        that the range of every row: 0..255 in steps of one.
        """
        batch, name = self.batch, grid.layer.name
        cut, in_order, label = (each.name for each in grid.moves)
        height, (rows, columns) = grid.patch_size[0], grid.grid
        patches, weight = batch * rows * columns, self.recipe.weights[name]
        inputs, outputs = weight.values.shape
        x = self.reshape(image, (batch * rows, height, columns, inputs // height), cut)
        x = self.transpose(x, (0, 2, 1, 3), in_order)
        x = self.reshape(x, (patches, inputs), f"{label}/rows")
        if name in self.recipe.inputs:
            high = self.recipe.inputs[name].high
            ends = np.full((patches, _RANGE_COLUMNS), high, np.float32)
            x = self.joined([x, self.constant(f"{label}/ends", ends)], 1, f"{label}/ranged")
            unread = np.zeros((_RANGE_COLUMNS, outputs), np.int8)
            weight = replace(weight, values=np.concatenate([weight.values, unread]))
        projected = self._integer_product(x, weight, layer.bias, name)
        return self.reshape(projected, (batch, *grid.layer.shape), label)

    def split_heads(
        self, joined: int, values: Sequence[Value], heads: int, width: int
    ) -> list[int]:
        """One transposition for all, then a split of whole heads, which are contiguous."""
        tokens, parts = values[0].shape[0], [group_of(value.name) for value in values]
        label = f"{parts[0][0]}/{''.join(part for _, part in parts)}"
        shape = (self.batch, tokens, len(values) * heads, width)
        split = self.reshape(joined, shape, f"{label}/heads")
        split = self.transpose(split, (0, 2, 1, 3), f"{label}/by_head")
        return self.model.operator_many(
            "SPLIT",
            [self.integers((1,), scalar=True), split],
            [(self.batch, heads, tokens, width)] * len(values),
            [part_name(value.name) for value in values],
            {"table": "SplitOptions", "numSplits": len(values)},
        )

    def split_columns(self, joined: int, values: Sequence[Value]) -> list[int]:
        """See ``Steps``."""
        first, parts = 0, []
        for value in values:
            count = value.shape[-1]
            parts.append(self.neighbours_along(joined, 1, first, count, part_name(value.name)))
            first += count
        return parts

    def product(self, value: Value, product: Product, a: int, b: int) -> int:
        """See ``Steps``."""
        options = {"table": "BatchMatMulOptions"} | ({"adjY": True} if product.transposed else {})
        return self.in_batches(value, a, b, options, name=value.name)

    def in_batches(
        self,
        value: Value,
        a: int,
        b: int,
        options: dict[str, Any],
        *,
        name: str,
        version: int = 1,
    ) -> int:
        """A matrix product; of more than four axes, all except the last two are one."""
        shape = made = (self.batch, *value.shape)
        if len(made) > MOST_AXES:
            a, b = (self.by_last_axes(x, 2, f"{name}/{at}") for x, at in ((a, "a"), (b, "b")))
            shape = (self.model.shape(a)[0], *made[-2:])
        product = self.model.operator(
            "BATCH_MATMUL", [a, b], shape, name=name, options=options, version=version
        )
        return self.seen_as(product, made)

    def softmax(self, value: Value, x: int, *, version: int = 1) -> int:
        """See ``Steps``."""
        lies = self.by_last_axes(x, 1, value.name)
        options = {"table": "SoftmaxOptions", "beta": 1.0}
        shares = self.model.operator(
            "SOFTMAX",
            [lies],
            self.model.shape(lies),
            name=value.name,
            options=options,
            version=version,
        )
        return self.seen_as(shares, self.shape(x))

    # --- layers

    def linears(self, layers: dict[str, Linear], x: int) -> int:
        """One FULLY_CONNECTED of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        if isinstance(weight, IntegerWeight):
            return self._integer_product(x, weight, bias, name)
        stored = self.weight(weight.T, f"{name}.weight")
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

    def norm(self, value: Value, norm: Norm, x: int) -> int:
        """See ``Steps``."""
        name, seen = value.name, self.shape(x)
        x = self.by_last_axes(x, 1, name)
        if norm.kind is NormKind.LAYER:
            mean = self.over_row("MEAN", x, f"{name}/mean")
            x = self.binary("SUB", x, mean, f"{name}/centred")
        square = self.binary("MUL", x, x, f"{name}/square")
        kind = "SUM" if norm.kind is NormKind.L2 else "MEAN"
        variance = self.over_row(kind, square, f"{name}/variance")
        eps = self.constant(f"{name}/eps", np.asarray([norm.eps], np.float32))
        variance = self.binary("ADD", variance, eps, f"{name}/variance_eps")
        row = self.model.shape(variance)
        inverse = self.model.operator("RSQRT", [variance], row, name=f"{name}/inverse")
        x = self.binary("MUL", x, inverse, name)
        return self.seen_as(self.with_gamma_and_beta(x, norm, name), seen)

    def over_row(self, code: str, x: int, name: str) -> int:
        """A mean or a sum over the last axis, which stays with a size of one."""
        *leading, _ = shape = self.model.shape(x)
        return self.reduced(code, x, len(shape) - 1, (*leading, 1), name)

    def with_gamma_and_beta(self, x: int, norm: Norm, name: str) -> int:
        """The rest of a norm; ones and zeros cost nothing."""
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self.binary("MUL", x, gamma, f"{name}/scaled")
        if np.any(norm.beta != 0):
            beta = self.constant(f"{name}.beta", norm.beta)
            x = self.binary("ADD", x, beta, f"{name}/shifted")
        return x

    def activate(self, value: Value, activation: Activate, x: int) -> int:
        """See ``Steps``."""
        label, seen = value.name, self.shape(x)
        x = self.as_it_lies(x)
        shape = self.model.shape(x)
        match activation.kind:
            case Activation.GELU | Activation.GELU_TANH:
                approximate = activation.kind is Activation.GELU_TANH
                options = {"table": "GeluOptions", "approximate": approximate}
                made = self.model.operator("GELU", [x], shape, name=label, options=options)
            case Activation.QUICK_GELU | Activation.SILU:
                inner = x
                if activation.kind is Activation.QUICK_GELU:
                    inner = self.scaled(x, 1.702, f"{label}/scaled")
                gate = self.model.operator("LOGISTIC", [inner], shape, name=f"{label}/gate")
                made = self.binary("MUL", x, gate, label)
            case Activation.RECIPROCAL:
                one = self.constant(f"{label}/one", np.ones(1, np.float32))
                made = self.binary("DIV", one, x, label)
            case _:
                code = _CODES[activation.kind]
                made = self.model.operator(code, [x], shape, name=label)
        return self.seen_as(made, seen)


def layer_of(value: Value) -> Linear:
    """The linear layer that makes a value."""
    assert isinstance(value.operator, Linear)
    return value.operator
