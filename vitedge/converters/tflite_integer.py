"""The operators of a TFLite file without any float operator, for NPUs.

* Products are int8, the residual stream and norms int16. FULLY_CONNECTED on int8 makes int8, so
  what it makes is widened (QUANTIZE) before it is added to the stream.
* Queries, keys and values are products of their own: their ranges differ, and an integer tensor has
  one.
* Shares of attention are int16. Where values are int8, BATCH_MATMUL wants int8 shares too, so they
  are cut into a coarse and a fine part of 8 bits each, and their products are added.
* RSQRT on int16 is a table of 256 steps over the positive range, straight in between, so it is
  wrong for what is small against that range. A norm whose variances lie far apart has its square
  and mean twice, for small tokens and for large: of the two roots' inverses the smaller is right,
  as the range of the small ones ends early, and the table for the large ones errs upwards.
* int16 sums have scales that are no powers of two (``pot_scale_int16`` false).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.tflite_emitter import TFLiteEmitter
from vitedge.converters.tflite_model import TFLiteModel
from vitedge.quantize import IntegerWeight, Range, Recipe
from vitedge.spec import NormKind
from vitedge.vit import Array, Linear, Norm, ViT

# int8 shares have this scale whatever their model (TFLite's quantization specification).
_SHARE = Range(0.0, 255 / 256)
# What the coarse part leaves of a share is within half of its step, in steps of 1/32768.
_REST = Range.symmetric(127 / 32768, 8)

# A raw pixel, as int8 with zero point -128.
_PIXELS = Range(0.0, 255.0)

# From the smallest variance up to so many times of it, the table of RSQRT is good to 1 in 1000.
_TABLE_SPAN = 16.0


class TFLiteIntegerEmitter(TFLiteEmitter):
    """The steps as integer operators."""

    joins_products = False

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        super().__init__(vit, recipe, batch)
        self._grids = dict(recipe.tensors) | {"pixels": _PIXELS}
        self.model = TFLiteModel(self._grids)
        self._requantized: dict[tuple[int, Range], int] = {}

    def patches(self, pixels: int) -> int:
        """See ``Walk``; the convolution writes into the residual stream, so it is wide."""
        config, layer = self.config, self.vit.patch
        (height, width), (rows, columns) = config.patch_size, config.grid
        integers = self.recipe.weights["patch"]
        x = self._as(pixels, self.recipe.inputs["patch"], "patch/pixels")
        shape = (config.dim, height, width, config.channels)
        options = {"table": "Conv2DOptions", "padding": 1, "strideH": height, "strideW": width}
        patches = self.model.operator(
            "CONV_2D",
            [
                x,
                self.model.weight("patch.weight", integers, shape),
                self._bias("patch", x, integers, layer.bias),
            ],
            (self.batch, rows, columns, config.dim),
            name="patch",
            options=options,
            version=4,
        )
        return self.reshape(patches, (self.batch, config.patches, config.dim), "patches")

    def linears(self, layers: dict[str, Linear], x: int) -> int:
        """See ``Walk``; one layer at a time."""
        ((name, layer),) = layers.items()
        integers = self.recipe.weights[name]
        x = self._as(x, self.recipe.range_read(name, self.model.range_of(x)), f"{name}/input")
        made = self._grids[name]
        if made.bits != self.model.range_of(x).bits:
            raise AssertionError(f"{name} reads {self.model.range_of(x)} and makes {made}")
        return self.model.operator(
            "FULLY_CONNECTED",
            [
                x,
                self.model.weight(f"{name}.weight", integers),
                self._bias(name, x, integers, layer.bias),
            ],
            (self.model.shape(x)[0], layer.weight.shape[1]),
            name=name,
            options={"table": "FullyConnectedOptions"},
            version=12,
        )

    def _bias(self, name: str, x: int, weight: IntegerWeight, bias: Array) -> int:
        covered = self.model.range_of(x)
        scale, _ = covered.scale_and_zero_point()
        steps = scale * weight.scale.astype(np.float64)
        return self.model.integer_bias(f"{name}.bias", bias, steps, covered.bits)

    def attend(self, q: int, k: int, v: int, queries: int, name: str) -> int:
        """See ``Walk``; shares of 16 bits meet values of 8 in two products."""
        config = self.config
        q = self._as(q, self._grids.get(f"{name}/queries"), f"{name}/queries")
        k = self._as(k, self._grids.get(f"{name}/keys"), f"{name}/keys")
        shape = (self.batch, config.heads, queries, config.tokens)
        options = {"table": "BatchMatMulOptions", "adjY": True}
        scores = self.model.operator(
            "BATCH_MATMUL", [q, k], shape, name=f"{name}/scores", options=options, version=3
        )
        if config.attention_scale != 1.0:
            scores = self._scale(scores, config.attention_scale, f"{name}/scaled")
        softmax = {"table": "SoftmaxOptions", "beta": 1.0}
        shares = self.model.operator(
            "SOFTMAX", [scores], shape, name=f"{name}/softmax", options=softmax, version=3
        )
        if self.model.range_of(v).bits == 16:
            return self._mix(shares, v, queries, f"{name}/mixed")
        coarse = self._as(shares, _SHARE, f"{name}/softmax_high")
        widened = self._as(coarse, self._grids[f"{name}/softmax"], f"{name}/softmax_kept")
        rest = Range.symmetric(1 / 256, 16)
        self._grids[f"{name}/softmax_rest"] = rest
        fine = self._binary("SUB", shares, widened, f"{name}/softmax_rest")
        fine = self._as(fine, _REST, f"{name}/softmax_low")
        mixed = [
            self._mix(part, v, queries, f"{name}/mixed_{label}")
            for label, part in (("high", coarse), ("low", fine))
        ]
        largest = self._grids[f"{name}/mixed_high"]
        wide = Range.symmetric(2 * max(largest.high, -largest.low), 16)
        total = self._sum([self._as(part, wide, f"{name}/wide") for part in mixed], wide, name)
        return self._as(total, self._grids[f"{name}/mixed"], f"{name}/mixed")

    def _sum(self, parts: list[int], covered: Range, name: str) -> int:
        self._grids[f"{name}/mixed_sum"] = covered
        return self._binary("ADD", parts[0], parts[1], f"{name}/mixed_sum")

    def _mix(self, shares: int, v: int, queries: int, name: str) -> int:
        shape = (self.batch, self.config.heads, queries, self.config.head_dim)
        options = {"table": "BatchMatMulOptions"}
        return self.model.operator(
            "BATCH_MATMUL", [shares, v], shape, name=name, options=options, version=3
        )

    def norm(self, norm: Norm, x: int, name: str, kind: NormKind) -> int:
        """See ``Walk``; int16 throughout."""
        shape = self.model.shape(x)
        row = (*shape[:-1], 1)
        if kind is NormKind.LAYER:
            mean = self._reduce_mean(x, len(shape) - 1, row, f"{name}/mean")
            x = self._binary("SUB", x, mean, f"{name}/centred")
        x = self._binary("MUL", x, self._inverse_deviation(x, name, norm.eps), name)
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self._binary("MUL", x, gamma, f"{name}/scaled")
        if np.any(norm.beta != 0):
            beta = self.constant(f"{name}.beta", norm.beta)
            x = self._binary("ADD", x, beta, f"{name}/shifted")
        return x

    def _inverse_deviation(self, x: int, name: str, eps: float) -> int:
        """One over the root of the mean square, by one table of RSQRT or two."""
        largest = self._grids[f"{name}/variance"].high
        smallest = 1 / self._grids[f"{name}/inverse"].high ** 2
        split = smallest * _TABLE_SPAN * 4  # the inverse's headroom of 2 is one of 4 here
        whole = self._inverse_up_to(x, largest, smallest, f"{name}/whole", name, eps)
        if split >= largest / 2:
            return whole
        small = self._inverse_up_to(x, split, smallest, f"{name}/small", name, eps)
        self._grids[f"{name}/inverse"] = self.model.range_of(small)
        options = {"table": "MaximumMinimumOptions"}
        return self.model.operator(
            "MINIMUM",
            [small, whole],
            self.model.shape(small),
            name=f"{name}/inverse",
            options=options,
            version=4,
        )

    def _inverse_up_to(
        self, x: int, largest: float, smallest: float, label: str, name: str, eps: float
    ) -> int:
        """Saturates above ``largest``."""
        shape = self.model.shape(x)
        row = (*shape[:-1], 1)
        # Within a token of that mean square, no number is larger than the norm's output says.
        peak = max(self._grids[name].high, 1.0) ** 2
        self._grids[f"{label}/square"] = Range.symmetric(largest * peak, 16)
        self._grids[f"{label}/mean_square"] = Range.symmetric(largest, 16)
        self._grids[f"{label}/inverse"] = Range.symmetric(1 / np.sqrt(smallest), 16)
        squares = self._binary("MUL", x, x, f"{label}/square")
        mean = self._reduce_mean(squares, len(shape) - 1, row, f"{label}/mean_square")
        self._grids[f"{label}/mean_square_eps"] = Range.symmetric(largest, 16)
        epsilon = self.constant(f"{label}/eps", np.asarray([eps], np.float32))
        mean = self._binary("ADD", mean, epsilon, f"{label}/mean_square_eps")
        return self.model.operator("RSQRT", [mean], row, name=f"{label}/inverse", version=3)

    # --- single operators

    def _binary(self, code: str, a: int, b: int, name: str) -> int:
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
        options: dict[str, Any] = {"table": table}
        made = self._grids[name]
        if code != "MUL":
            options["potScaleInt16"] = False
        a, b = (self._widened(value, made, name) for value in (a, b))
        shape = np.broadcast_shapes(self.model.shape(a), self.model.shape(b))
        return self.model.operator(code, [a, b], shape, name=name, options=options, version=3)

    def _widened(self, x: int, made: Range, name: str) -> int:
        """An operand in as many bits as the result has: operators do not mix them."""
        covered = self.model.range_of(x)
        if covered.bits == made.bits:
            return x
        largest = max(covered.high, -covered.low)
        return self._as(x, Range.symmetric(largest, made.bits), f"{name}/operand")

    def concatenate(self, values: list[int], name: str) -> int:
        """See ``Walk``; parts and whole have one range."""
        covered = self._grids[name]
        parts = [self._as(each, covered, f"{name}/part") for each in values]
        return super().concatenate(parts, name)

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """See ``Walk``; floats become int16."""
        if values.dtype != np.float32:
            return super().constant(name, values)
        if name == "prefix":
            return self.model.integer_constant(name, values, self._grids["tokens"])
        largest = float(np.abs(values).max()) or 1.0
        return self.model.integer_constant(name, values, Range.symmetric(largest, 16))

    def _as(self, x: int, covered: Range | None, name: str) -> int:
        """The same numbers in another range; None is the one they have."""
        if covered is None or self.model.range_of(x) == covered:
            return x
        key = (x, covered)
        if key not in self._requantized:
            self._grids[name] = covered
            options = {"table": "QuantizeOptions"}
            self._requantized[key] = self.model.operator(
                "QUANTIZE", [x], self.model.shape(x), name=name, options=options, version=3
            )
        return self._requantized[key]
