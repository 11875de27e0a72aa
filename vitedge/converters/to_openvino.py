"""OpenVINO: the graph that its CPU plug-in fuses whole, from its own operators.

* Tokens are ``(batch, tokens, dim)``. As a matrix they would be as fast, but OpenVINO 2026.4 then
  crashes while it compiles: one of its fusions of small linear layers (dim up to 256, fewer than
  four tokens, followed by a residual sum) reads past two dimensions.
* LayerNorm is one MVN, attention is MatMul, Softmax, MatMul on static shapes.
* int8: a FakeQuantize with the calibrated range stands before each linear layer, and its weight is
  int8 with one scale per output channel; the plug-in makes one integer kernel of it. Everything
  between linear layers stays float (bfloat16 where the processor has it).
* int4: groups of weights are widened, less their zero point, times their scale, which the plug-in
  does inside the product.
* fp16: weights are stored in half and widened when the model is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifact import METADATA_KEY, Metadata
from vitedge.converters import packed_nibbles, side_by_side
from vitedge.errors import ConversionError, missing_package
from vitedge.quantize import Activations, IntegerWeight, Range, Recipe
from vitedge.rewrite.learnt_grid import Groups
from vitedge.spec import Activation, Format, NormKind, Precision
from vitedge.vit import Array, Linear, Norm, ViT
from vitedge.walk import Walk

_REFUSALS: Mapping[Precision, str] = {
    Precision.INT8_STATIC: "its int8 is static already, and its plug-ins choose themselves what "
    "stays float on a device; take --int8",
    Precision.W8A16: "its plug-ins have no 16-bit integer activations; take --int8 or --fp16",
}


# Half of 32: two decibels of the logits, zero points included, for 3 % of time; see
# docs/decisions/0026.
_GROUPS = Groups(16, zero_points=True)


@dataclass(frozen=True)
class OpenVINOConverter:
    """Writes ``.xml`` files with their ``.bin``."""

    format: Format = Format.OPENVINO
    precisions: tuple[Precision, ...] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8,
        Precision.INT4,
    )
    activations: Activations = Activations.STATIC_OR_PER_TOKEN
    groups: Groups = _GROUPS
    refusals: Mapping[Precision, str] = field(default_factory=lambda: _REFUSALS)
    rewrites: tuple[str, ...] = ("centre-stream",)

    def convert(
        self, vit: ViT, recipe: Recipe, *, batch: int = 1, features: int = 0
    ) -> OpenVINODraft:
        """See ``Converter``."""
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise missing_package("openvino", "convert") from error
        return OpenVINODraft(_Emitter(vit, recipe, batch).emit(features))


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


class _Emitter(Walk[Any]):
    """The steps as OpenVINO nodes; values are nodes or their outputs."""

    tokens_are_rows = False

    def __init__(self, vit: ViT, recipe: Recipe, batch: int) -> None:
        from openvino import opset13

        super().__init__(vit, batch)
        self.recipe = recipe
        self._ops: Any = opset13
        self._numbered = 0

    def emit(self, features: int = 0) -> Any:
        """The finished model; its logits end in so many features, which get an output apart."""
        import openvino

        shape = (self.batch, *self.config.image_size, self.config.channels)
        pixels = self._ops.parameter(shape, np.float32, name="pixels")
        pixels.output(0).get_tensor().set_names({"pixels"})
        head = self.walk(pixels)
        outputs = {"logits": head.output(0)}
        if features:
            axis = self.constant("outputs/axis", np.asarray(1, np.int64))
            sizes = np.asarray([self.config.classes - features, features], np.int64)
            lengths = self.constant("outputs/sizes", sizes)
            parts = self._ops.variadic_split(head, axis, lengths, name="outputs").outputs()
            outputs = dict(zip(("logits", "features"), parts, strict=True))
        results = []
        for name, output in outputs.items():
            output.get_tensor().set_names({name})
            results.append(self._ops.result(output, name=name))
        model = openvino.Model(results, [pixels], "vision_transformer")
        widths = [
            len(weight.values) if weight.bits == 8 else weight.group
            for name, weight in self.recipe.weights.items()
            if name not in self.recipe.inputs
        ]
        if widths:
            # One option for all layers: where a group is not a divisor of the inputs, the plug-in
            # would compute the layer in float.
            group = str(math.gcd(*widths))
            model.set_rt_info(group, ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        return model

    def scale_pixels(self, pixels: Any, factor: Array, offset: Array) -> Any:
        """See ``Walk``."""
        factors, offsets = (
            self.constant("pixels.factor", factor),
            self.constant("pixels.offset", offset),
        )
        scaled = self._ops.multiply(pixels, factors, name="pixels/scaled")
        return self._ops.add(scaled, offsets, name="pixels/shifted")

    def patches(self, pixels: Any) -> Any:
        """Rows of a patch are contiguous in NHWC, so cutting patches is one copy."""
        config, batch = self.config, self.batch
        (height, width), (rows, columns) = config.patch_size, config.grid
        cut = (batch, rows, height, columns, width * config.channels)
        x = self.reshape(pixels, cut, "patches/cut")
        x = self.transpose(x, (0, 1, 3, 2, 4), "patches/sorted")
        x = self.reshape(x, (batch, config.patches, len(self.vit.patch.weight)), "patches")
        return self.linears({"patch": self.vit.patch}, x)

    def split_heads(
        self, joined: Any, names: Sequence[str], block_name: str, tokens: int
    ) -> list[Any]:
        """A split of columns, then a transposition each."""
        config = self.config
        parts = [joined]
        if len(names) > 1:
            axis = self.constant(f"{block_name}/axis", np.asarray(2, np.int64))
            label = f"{block_name}/{''.join(names)}"
            parts = self._ops.split(joined, axis, len(names), name=label).outputs()
        shape = (self.batch, tokens, config.heads, config.head_dim)
        heads = []
        for name, part in zip(names, parts, strict=True):
            split = self.reshape(part, shape, f"{block_name}/{name}/heads")
            heads.append(self.transpose(split, (0, 2, 1, 3), f"{block_name}/{name}/by_head"))
        return heads

    def attend(self, q: Any, k: Any, v: Any, queries: int, name: str) -> Any:
        """MatMul, Softmax, MatMul on static shapes, which the CPU plug-in fuses."""
        scale = self.config.attention_scale
        scores = self._ops.matmul(q, k, False, True, name=f"{name}/scores")
        if scale != 1.0:
            scores = self._scale(scores, scale, f"{name}/scaled")
        shares = self._ops.softmax(scores, 3, name=f"{name}/softmax")
        return self._ops.matmul(shares, v, False, False, name=f"{name}/mixed")

    # --- layers

    def linears(self, layers: dict[str, Linear], x: Any) -> Any:
        """One matrix product of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        if not isinstance(weight, IntegerWeight):
            stored = self._weight(f"{name}.weight", weight.T)
        else:
            covered = self.recipe.inputs.get(next(iter(layers)))
            if covered is None:
                stored = self._compressed_weight(weight, name)
            else:
                x = self._quantized(x, covered, name)
                stored = self._integer_weight(weight, name)
        product = self._ops.matmul(x, stored, False, True, name=f"{name}/product")
        return self._ops.add(product, self.constant(f"{name}.bias", bias), name=name)

    def _quantized(self, x: Any, covered: Range, name: str) -> Any:
        # Move the ends so that real 0 is one of the levels, as the recipe's zero point says.
        scale, zero = covered.scale_and_zero_point()
        low = self._scalar(f"{name}/low", -zero * scale)
        high = self._scalar(f"{name}/high", (covered.levels - 1 - zero) * scale)
        return self._ops.fake_quantize(
            x, low, high, low, high, covered.levels, name=f"{name}/quantized"
        )

    def _integer_weight(self, weight: IntegerWeight, name: str) -> Any:
        stored = self.constant(f"{name}.weight/int8", np.ascontiguousarray(weight.values.T))
        wide = self._ops.convert(stored, np.float32, name=f"{name}.weight/wide")
        scale = self.constant(f"{name}.weight/scale", weight.scale[:, None])
        return self._ops.multiply(wide, scale, name=f"{name}.weight")

    def _compressed_weight(self, weight: IntegerWeight, name: str) -> Any:
        """A weight under float inputs, which the CPU plug-in quantizes when it runs."""
        outputs_first = np.ascontiguousarray(weight.values.T)
        outputs, inputs = outputs_first.shape
        shape = (outputs, inputs // weight.group, weight.group)
        steps = self._widened(outputs_first.reshape(shape), weight, f"{name}.weight")
        if weight.zero is not None:
            zero = self._widened(weight.zero.T[:, :, None], weight, f"{name}.weight/zero")
            steps = self._ops.subtract(steps, zero, name=f"{name}.weight/steps")
        scale = weight.scale.reshape(-1, outputs).T[:, :, None].astype(np.float16)
        scaled = self._ops.multiply(
            steps, self.constant(f"{name}.weight/scale", scale), name=f"{name}.weight/scaled"
        )
        matrix = self.reshape(scaled, (outputs, inputs), f"{name}.weight/matrix")
        return self._ops.convert(matrix, np.float32, name=f"{name}.weight")

    def _widened(self, values: npt.NDArray[np.int8], weight: IntegerWeight, name: str) -> Any:
        """Integers of a weight, stored in as few bits as they have, in half precision."""
        import openvino

        if weight.bits == 8:
            stored = self.constant(f"{name}/int8", values)
        else:
            kind, label = openvino.Type.i4, "int4"
            if weight.zero is not None:
                # All 8 larger, zero points too, as NNCF writes them for the plug-in.
                kind, label, values = openvino.Type.u4, "uint4", values + np.int8(8)
            packed = openvino.Tensor(packed_nibbles(values), values.shape, kind)
            stored = self._ops.constant(packed, shared_memory=False, name=f"{name}/{label}")
        return self._ops.convert(stored, np.float16, name=f"{name}/wide")

    def norm(self, norm: Norm, x: Any, name: str, kind: NormKind) -> Any:
        """See ``Walk``."""
        if kind is NormKind.LAYER:
            axes = self._integers((-1,))
            x = self._ops.mvn(x, axes, True, norm.eps, "INSIDE_SQRT", name=name)
        else:
            x = self._root_mean_square_normed(x, norm.eps, name)
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self._ops.multiply(x, gamma, name=f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._ops.add(x, self.constant(f"{name}.beta", norm.beta), name=f"{name}/shifted")
        return x

    def _root_mean_square_normed(self, x: Any, eps: float, name: str) -> Any:
        square = self._ops.multiply(x, x, name=f"{name}/square")
        mean = self._ops.reduce_mean(square, self._integers((-1,)), True, name=f"{name}/mean")
        shifted = self._ops.add(mean, self._scalar(f"{name}/eps", eps), name=f"{name}/shifted")
        return self._ops.divide(x, self._ops.sqrt(shifted, name=f"{name}/root"), name=name)

    def activate(self, x: Any, activation: Activation, name: str) -> Any:
        """See ``Walk``."""
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

    def reshape(self, x: Any, shape: tuple[int, ...], name: str) -> Any:
        """See ``Walk``."""
        return self._ops.reshape(x, self._integers(shape), False, name=name)

    def transpose(self, x: Any, order: tuple[int, ...], name: str) -> Any:
        """See ``Walk``."""
        return self._ops.transpose(x, self._integers(order), name=name)

    def add(self, a: Any, b: Any, name: str) -> Any:
        """See ``Walk``."""
        return self._ops.add(a, b, name=name)

    def concatenate(self, values: list[Any], name: str) -> Any:
        """See ``Walk``."""
        return self._ops.concat(values, 1, name=name)

    def mean_of_tokens(self, tokens: Any, name: str) -> Any:
        """See ``Walk``."""
        return self._ops.reduce_mean(tokens, self._integers((1,)), False, name=name)

    def tokens_from(self, tokens: Any, first: int, count: int, name: str) -> Any:
        """See ``Walk``; a Gather, since Slice takes 50 microseconds for a single token."""
        wanted = self._integers(tuple(range(first, first + count)))
        axis = self.constant(f"{name}/axis", np.asarray(1, np.int64))
        return self._ops.gather(tokens, wanted, axis, name=name)

    # --- constants

    def _weight(self, name: str, values: Array) -> Any:
        """A float weight: stored in half but in fp32 files, and widened when the model is compiled.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        half = self.constant(f"{name}/float16", values.astype(np.float16))
        widened = self._ops.convert(half, np.float32, name=name)
        # The mark by which OpenVINO knows a compressed weight, and keeps it so when it saves.
        widened.get_rt_info()["decompression"] = ""
        return widened

    # Every constant has a name: OpenVINO would number the others through the whole process, and
    # the same model would not give the same file twice.

    def _integers(self, values: tuple[int, ...]) -> Any:
        self._numbered += 1
        return self.constant(f"integers/{self._numbered}", np.asarray(values, np.int64))

    def _scalar(self, name: str, value: float) -> Any:
        return self.constant(name, np.asarray(value, np.float32))

    def constant(self, name: str, values: npt.NDArray[Any]) -> Any:
        """See ``Walk``."""
        return self._ops.constant(np.asarray(values, order="C"), name=name)


PLUGIN = OpenVINOConverter()
