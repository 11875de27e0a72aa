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
* Pixels come as uint8, which clients have, and are made int8 by one operator; outputs of 8 bits
  leave as uint8 in the same way, without a loss. Those of 16 bits stay as they are.
* int16 sums have scales that are not powers of two (``pot_scale_int16`` false).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.emitter import beside
from vitedge.converters.integer_emitter import InexpressibleError, IntegerEmitter, Ranges
from vitedge.converters.tflite.emitter import TFLiteEmitter, layer_of
from vitedge.converters.tflite.graph import MOST_AXES
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.converters.tflite.window_parts import is_depthwise
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network, Value
from vitedge.network.numerics import as_root_mean_square
from vitedge.network.operators import (
    Activate,
    Array,
    Concatenate,
    Convolution,
    Linear,
    Norm,
    Pool,
    PoolKind,
    Product,
    Standardize,
)
from vitedge.network.patch_grid import PatchGrid
from vitedge.quantize import IntegerWeight, Range, Recipe
from vitedge.quantize.widths import mixes_shares
from vitedge.targets.scores import Scores

# int8 shares have this scale whatever their model (TFLite's quantization specification).
_SHARE = Range(0.0, 255 / 256)
# What the coarse part leaves of a share is within half of its step, in steps of 1/32768.
_REST = Range.symmetric(127 / 32768, 8)

# A raw pixel: uint8 as it is, int8 with zero point -128.
_PIXELS = Range(0.0, 255.0)
_SIGNED = "pixels/signed"

# From the smallest variance up to so many times of it, the table of RSQRT is good to 1 in 1000.
_TABLE_SPAN = 16.0


class TFLiteIntegerEmitter(IntegerEmitter[int], TFLiteEmitter):
    """The steps as integer operators."""

    version_of_gather = 4
    version_of_convolution = 5
    version_of_pool = 3

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self.ranges = Ranges({**recipe.tensors, "pixels": _PIXELS, _SIGNED: _PIXELS})
        self.model = TFLiteModel(self.ranges)
        self._requantized: dict[tuple[int, Range], int] = {}
        self._whole_of = self._ranges_of_parts()

    def emit(self) -> dict[str, int]:
        """See ``TFLiteEmitter``."""
        pixels = self.model.input("pixels", (self.batch, *self.network.image_shape))
        self.model.make_unsigned(pixels)
        ((name, made),) = self.lower(self._quantize(pixels, _SIGNED)).items()
        scores = self.lying(made, self.shape(made), f"{name}/output")
        if name == Scores.PROBABILITIES:  # clients take bytes of a softmax, in steps of 1/256
            scores = self.as_range(scores, _SHARE, f"{name}/narrow")
        if self.range_of(scores).bits == 8:
            self.ranges[name] = self.range_of(scores)
            scores = self._quantize(scores, name)
            self.model.make_unsigned(scores)
        return {name: scores}

    def range_of(self, x: int) -> Range:
        """See ``IntegerEmitter``."""
        return self.model.range_of(self.as_it_lies(x))

    def _ranges_of_parts(self) -> dict[str, Range]:
        """Ranges of constants that become part of a larger tensor, and nothing else."""
        return {
            value.name: self.ranges[readers[0].name]
            for value, readers in self.readers.items()
            if value.is_constant and len(readers) == 1
            if isinstance(readers[0].operator, Concatenate) and readers[0].name in self.ranges
        }

    def patches(self, grid: PatchGrid, image: int) -> int:
        """See ``Steps``; the convolution writes into the residual stream, so it is wide."""
        name, (height, width), (rows, columns) = grid.layer.name, grid.patch_size, grid.grid
        integers = self.recipe.weights[name]
        outputs = integers.values.shape[1]
        x = self.as_range(image, self.recipe.inputs[name], f"{name}/pixels")
        shape = (outputs, height, width, grid.image.shape[-1])
        options = {"table": "Conv2DOptions", "padding": 1, "strideH": height, "strideW": width}
        patches = self.model.operator(
            "CONV_2D",
            [
                x,
                self.model.weight(f"{name}.weight", integers, shape),
                self._bias(name, x, integers, layer_of(grid.layer).bias),
            ],
            (self.batch, rows, columns, outputs),
            name=name,
            options=options,
            version=4,
        )
        return self.reshape(patches, (self.batch, *grid.layer.shape), grid.moves[-1].name)

    def linears(self, layers: dict[str, Linear], x: int) -> int:
        """See ``Steps``; one layer at a time."""
        ((name, layer),) = layers.items()
        integers = self.recipe.weights[name]
        x = self.as_range(x, self.recipe.range_read(name, self.range_of(x)), f"{name}/input")
        made = self.ranges[name]
        if made.bits != self.range_of(x).bits:
            read = self.range_of(x).bits
            raise InexpressibleError(f"'{name}' reads {read} bits and makes {made.bits}")
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

    def standardize(self, value: Value, operator: Standardize, image: int) -> int:
        """See ``Steps``; where no layer takes it in, as padded ones cannot, in 16 bits."""
        name = value.inputs[0].name
        self.ranges[f"{name}/scaled"] = Range.symmetric(1 / min(operator.std), 16)
        image = self.as_range(image, Range.symmetric(_PIXELS.high, 16), f"{name}/wide")
        return super().standardize(value, operator, image)

    def convolution(self, value: Value, layer: Convolution, x: int) -> int:
        """See ``Steps``."""
        name, integers = value.name, self.recipe.weights[value.name]
        x = self.convolved(value, x)
        rows, columns, part, outputs = layer.weight.shape
        if is_depthwise(layer):
            shape = (1, rows, columns, outputs)
            weight = self.model.depthwise_weight(f"{name}.weight", integers, shape)
        else:
            shape = (outputs, rows, columns, part)
            weight = self.model.weight(f"{name}.weight", integers, shape)
        return self.slid(value, layer, x, weight, self._bias(name, x, integers, layer.bias))

    def pool(self, value: Value, pool: Pool, x: int) -> int:
        """See ``Steps``; a mean that leaves out padding is a product, in 16 bits."""
        covered, name = self.range_of(x), value.name
        if pool.kind is PoolKind.AVERAGE:
            x = self._in_bits(x, 16, f"{name}/wide")
        self.ranges[f"{name}/of_image"] = self.range_of(x)
        return self.as_range(super().pool(value, pool, x), covered, f"{name}/pooled")

    def least(self, x: int) -> float:
        """See ``TFLiteImages``."""
        return self.range_of(x).low

    def padding_value(self, x: int, fill: float, name: str) -> int:
        """See ``TFLiteImages``."""
        return self.model.integer_constant(name, np.asarray([fill], np.float32), self.range_of(x))

    def _bias(self, name: str, x: int, weight: IntegerWeight, bias: Array) -> int:
        covered = self.range_of(x)
        scale, _ = covered.scale_and_zero_point()
        steps = scale * weight.scale.astype(np.float64)
        return self.model.integer_bias(f"{name}.bias", bias, steps, covered.bits)

    def product(self, value: Value, product: Product, a: int, b: int) -> int:
        """See ``Steps``; shares of 16 bits meet values of 8 in two products."""
        a, b = self.operands(value, a, b)
        bits = self.range_of(a).bits, self.range_of(b).bits
        if bits == (16, 8) and mixes_shares(value):
            return self._mixed_in_two(value, a, b, transposed=product.transposed)
        if bits[0] != bits[1]:
            raise InexpressibleError(f"its factors have {bits[0]} and {bits[1]} bits")
        return self._multiplied(value, a, b, value.name, transposed=product.transposed)

    def _mixed_in_two(self, value: Value, a: int, v: int, *, transposed: bool) -> int:
        """The products of a share's coarse and its fine part with the values, added."""
        shares, name = value.inputs[0].name, value.name
        coarse = self.as_range(a, _SHARE, f"{shares}_high")
        widened = self.as_range(coarse, self.range_of(a), f"{shares}_kept")
        self.ranges[f"{shares}_rest"] = Range.symmetric(1 / 256, 16)
        fine = self.of_two("SUB", a, widened, f"{shares}_rest")
        fine = self.as_range(fine, _REST, f"{shares}_low")
        mixed = [
            self._multiplied(value, part, v, f"{name}_{label}", transposed=transposed)
            for label, part in (("high", coarse), ("low", fine))
        ]
        largest = self.ranges[f"{name}_high"]
        wide = Range.symmetric(2 * max(largest.high, -largest.low), 16)
        high, low = (self.as_range(part, wide, beside(name, "wide")) for part in mixed)
        self.ranges[f"{name}_sum"] = wide
        total = self.of_two("ADD", high, low, f"{name}_sum")
        return self.as_range(total, self.ranges[name], name)

    def _multiplied(
        self, value: Value, a: int, b: int, name: str, *, transposed: bool = False
    ) -> int:
        options = {"table": "BatchMatMulOptions"} | ({"adjY": True} if transposed else {})
        return self.in_batches(value, a, b, options, name=name, version=3)

    def activate(self, value: Value, activation: Activate, x: int) -> int:
        """See ``Steps``."""
        x = self._widened(self.entering(value, x), self.ranges[value.name], value.name)
        if activation.kind is Activation.HARD_SWISH and self.range_of(x).bits == 16:
            return self._hard_swish(value.name, x)
        return super().activate(value, activation, x)

    def _hard_swish(self, name: str, x: int) -> int:
        """``x relu6(x + 3) / 6``, for TFLite's own operator takes no 16-bit integers."""
        seen, x = self.shape(x), self.as_it_lies(x)
        covered = self.range_of(x)
        self.ranges |= {
            f"{name}/moved": Range.symmetric(max(covered.high, -covered.low) + 3, 16),
            f"{name}/gate": Range.symmetric(6, 16),
            f"{name}/share": Range.symmetric(1, 16),
        }
        three, sixth = (
            self.constant(f"{name}/{label}", np.asarray([number], np.float32))
            for label, number in (("three", 3), ("sixth", 1 / 6))
        )
        moved = self.binary("ADD", x, three, f"{name}/moved")
        gate = self.model.operator("RELU6", [moved], self.model.shape(x), name=f"{name}/gate")
        share = self.binary("MUL", gate, sixth, f"{name}/share")
        return self.seen_as(self.binary("MUL", x, share, name), seen)

    def softmax(self, value: Value, x: int, *, version: int = 3) -> int:
        """See ``Steps``."""
        return super().softmax(value, x, version=version)

    def norm(self, value: Value, norm: Norm, x: int) -> int:
        """See ``Steps``; int16 throughout."""
        norm = as_root_mean_square(norm)
        name, seen = value.name, self.shape(x)
        x = self.by_last_axes(x, 1, name)
        if norm.kind is NormKind.LAYER:
            mean = self.over_row("MEAN", x, f"{name}/mean")
            x = self.binary("SUB", x, mean, f"{name}/centred")
        x = self.binary("MUL", x, self._inverse_deviation(x, name, norm.eps), name)
        return self.seen_as(self.with_gamma_and_beta(x, norm, name), seen)

    def _inverse_deviation(self, x: int, name: str, eps: float) -> int:
        """One over the root of the mean square, by one table of RSQRT or two."""
        largest = self.ranges[f"{name}/variance"].high
        smallest = 1 / self.ranges[f"{name}/inverse"].high ** 2
        split = smallest * _TABLE_SPAN * 4  # the inverse's headroom of 2 is one of 4 here
        whole = self._inverse_up_to(x, largest, smallest, f"{name}/whole", name, eps)
        if split >= largest / 2:
            return whole
        small = self._inverse_up_to(x, split, smallest, f"{name}/small", name, eps)
        self.ranges[f"{name}/inverse"] = self.range_of(small)
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
        peak = max(self.ranges[name].high, 1.0) ** 2
        self.ranges[f"{label}/square"] = Range.symmetric(largest * peak, 16)
        self.ranges[f"{label}/mean_square"] = Range.symmetric(largest, 16)
        self.ranges[f"{label}/inverse"] = Range.symmetric(1 / np.sqrt(smallest), 16)
        squares = self.binary("MUL", x, x, f"{label}/square")
        mean = self.over_row("MEAN", squares, f"{label}/mean_square")
        self.ranges[f"{label}/mean_square_eps"] = Range.symmetric(largest, 16)
        epsilon = self.constant(f"{label}/eps", np.asarray([eps], np.float32))
        mean = self.binary("ADD", mean, epsilon, f"{label}/mean_square_eps")
        return self.model.operator("RSQRT", [mean], row, name=f"{label}/inverse", version=3)

    # --- single operators

    def binary(self, code: str, a: int, b: int, name: str) -> int:
        """See ``TFLiteOperators``."""
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
        options: dict[str, Any] = {"table": table}
        made = self.ranges[name]
        if code != "MUL":
            options["potScaleInt16"] = False
        a, b = (self._widened(value, made, name) for value in (a, b))
        shape = np.broadcast_shapes(self.model.shape(a), self.model.shape(b))
        return self.model.operator(code, [a, b], shape, name=name, options=options, version=3)

    def reduced(
        self, code: str, x: int, axis: int, shape: Sequence[int], name: str, *, keep: bool = True
    ) -> int:
        """See ``TFLiteOperators``."""
        x = self._widened(x, self.ranges[name], name)
        return super().reduced(code, x, axis, shape, name, keep=keep)

    def _widened(self, x: int, made: Range, name: str) -> int:
        """An operand in as many bits as the result has: operators do not mix them."""
        covered = self.range_of(x)
        if covered.bits == made.bits:
            return x
        largest = max(covered.high, -covered.low)
        return self.as_range(x, Range.symmetric(largest, made.bits), f"{name}/operand")

    def joined(self, parts: list[int], axis: int, name: str) -> int:
        """See ``TFLiteOperators``; parts and whole have one range."""
        covered = self.ranges[name]
        parts = [self.as_range(each, covered, f"{name}/part") for each in parts]
        return super().joined(parts, axis, name)

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """See ``Steps``; floats become int16."""
        if values.dtype != np.float32:
            return super().constant(name, values)
        lies = values if values.ndim <= MOST_AXES else values.reshape(1, -1)
        largest = float(np.abs(values).max()) or 1.0
        covered = self._whole_of.get(name) or Range.symmetric(largest, 16)
        return self.seen_as(self.model.integer_constant(name, lies, covered), values.shape)

    def as_range(self, x: int, covered: Range | None, name: str) -> int:
        """See ``IntegerEmitter``."""
        if covered is None or self.range_of(x) == covered:
            return x
        key, seen = (self.as_it_lies(x), covered), self.shape(x)
        if key not in self._requantized:
            self.ranges[name] = covered
            self._requantized[key] = self._quantize(self.as_it_lies(x), name)
        return self.seen_as(self._requantized[key], seen)

    def _quantize(self, x: int, name: str) -> int:
        options = {"table": "QuantizeOptions"}
        return self.model.operator(
            "QUANTIZE", [x], self.model.shape(x), name=name, options=options, version=3
        )
