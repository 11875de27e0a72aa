"""The layers of OpenVINO, float or with integer weights; see ``to_openvino`` for why these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.joined import packed_nibbles, side_by_side
from vitedge.converters.openvino.channels_first import OpenVINOChannelsFirst
from vitedge.network.kinds import NormKind
from vitedge.network.lowering import group_of
from vitedge.network.network import Value
from vitedge.network.operators import Linear, Norm
from vitedge.quantize import IntegerWeight, Range
from vitedge.quantize.ranges import divides_by_largest

GROUP_SIZE = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]
"""Where a file says how many numbers share a scale that is found when the model runs."""


class OpenVINOEmitter(OpenVINOChannelsFirst):
    """The graph that the CPU plug-in fuses."""

    def emit(self) -> Any:
        """The finished model."""
        import openvino

        shape = (self.batch, *self.network.image_shape)
        pixels = self._ops.parameter(shape, np.float32, name="pixels")
        pixels.output(0).get_tensor().set_names({"pixels"})
        results = []
        for name, made in self.lower(pixels).items():
            output = made.output(0) if hasattr(made, "output") else made
            # A tensor that two outputs show, or that is the input, has several names.
            output.get_tensor().add_names({name})
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
            model.set_rt_info(group, GROUP_SIZE)
        return model

    def split_columns(self, joined: Any, values: Sequence[Value]) -> list[Any]:
        """See ``Steps``."""
        names = [group_of(value.name) for value in values]
        block, last = names[0][0], len(self.shape_in_rows(values[0])) - 1
        axis = self.constant(f"{block}/axis", np.asarray(last, np.int64))
        label = f"{block}/{''.join(part for _, part in names)}"
        widths = [value.shape[-1] for value in values]
        if len(set(widths)) == 1:
            return list(self._ops.split(joined, axis, len(values), name=label).outputs())
        sizes = self.constant(f"{label}/sizes", np.asarray(widths, np.int64))
        return list(self._ops.variadic_split(joined, axis, sizes, name=label).outputs())

    # --- layers

    def linears(self, layers: dict[str, Linear], x: Any) -> Any:
        """One matrix product of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        largest = None
        if not isinstance(weight, IntegerWeight):
            stored = self._weight(f"{name}.weight", weight.T)
        else:
            first = next(iter(layers))
            covered, floor = self.recipe.inputs.get(first), self.recipe.token_scaled.get(first)
            if covered is None:
                stored = self._compressed_weight(weight, name)
            else:
                if floor is not None:
                    largest = self._largest_of_tokens(x, covered, floor, name)
                    x = self._ops.divide(x, largest, name=f"{name}/quotient")
                x = self._quantized(x, covered, name)
                stored = self._integer_weight(weight, name)
        product = self._ops.matmul(x, stored, False, True, name=f"{name}/product")
        if largest is not None:
            product = self._ops.multiply(product, largest, name=f"{name}/scaled_back")
        return self._ops.add(product, self.constant(f"{name}.bias", bias), name=name)

    def _largest_of_tokens(self, x: Any, covered: Range, floor: float, name: str) -> Any:
        """The divisor of each token; see ``Recipe.token_scaled``."""
        if not divides_by_largest(covered):
            x = self._ops.absolute(x, name=f"{name}/size")
        largest = self._ops.reduce_max(x, self._integers((-1,)), True, name=f"{name}/largest")
        least = self._scalar(f"{name}/floor", floor)
        return self._ops.maximum(largest, least, name=f"{name}/divisor")

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

    def norm(self, value: Value, norm: Norm, x: Any) -> Any:
        """See ``Steps``."""
        name = value.name
        if norm.kind is NormKind.LAYER:
            axes = self._integers((-1,))
            x = self._ops.mvn(x, axes, True, norm.eps, "INSIDE_SQRT", name=name)
        else:
            x = self._over_its_size(x, norm, name)
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self._ops.multiply(x, gamma, name=f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._ops.add(x, self.constant(f"{name}.beta", norm.beta), name=f"{name}/shifted")
        return x

    def _over_its_size(self, x: Any, norm: Norm, name: str) -> Any:
        square = self._ops.multiply(x, x, name=f"{name}/square")
        reduced, label = self._ops.reduce_mean, f"{name}/mean"
        if norm.kind is NormKind.L2:
            reduced, label = self._ops.reduce_sum, f"{name}/sum"
        mean = reduced(square, self._integers((-1,)), True, name=label)
        shifted = self._ops.add(mean, self._scalar(f"{name}/eps", norm.eps), name=f"{name}/shifted")
        return self._ops.divide(x, self._ops.sqrt(shifted, name=f"{name}/root"), name=name)
