"""TensorFlow's sums, products and non-linearities."""

from __future__ import annotations

import math

import numpy as np

from vitedge.importers.lift.arithmetic import (
    Elementwise,
    activated,
    along,
    combined,
    negated,
    scaled,
)
from vitedge.importers.lift.contraction import contracted
from vitedge.importers.lift.draft import Tensor
from vitedge.importers.lift.images_read import largest
from vitedge.importers.lift.moving import averaged
from vitedge.importers.lift.tensorflow_call import Call, Rule
from vitedge.importers.lift.views import View
from vitedge.network.kinds import Activation
from vitedge.network.operators import Softmax


def _sum(call: Call) -> Tensor:
    made = call.inputs[0]
    for each in call.inputs[1:]:
        made = combined(call.draft, Elementwise.SUM, made, each)
    return made


def _sub(call: Call) -> Tensor:
    other = negated(call.draft, call.inputs[1])
    return combined(call.draft, Elementwise.SUM, call.inputs[0], other)


def _neg(call: Call) -> Tensor:
    return negated(call.draft, call.inputs[0])


def _bias(call: Call) -> Tensor:
    x, bias = call.inputs[0], call.inputs[1]
    if call.attribute("data_format") == "NCHW":
        bias = call.draft.reshaped(bias, (bias.shape[0], *(1,) * (len(x.shape) - 2)))
    return combined(call.draft, Elementwise.SUM, x, bias)


def _mul(call: Call) -> Tensor:
    return combined(call.draft, Elementwise.PRODUCT, call.inputs[0], call.inputs[1])


def _square(call: Call) -> Tensor:
    return combined(call.draft, Elementwise.PRODUCT, call.inputs[0], call.inputs[0])


def _div(call: Call) -> Tensor:
    x, by = call.inputs[0], call.inputs[1]
    if isinstance(by, View):
        inverse = activated(call.draft, Activation.RECIPROCAL, by)
        return combined(call.draft, Elementwise.PRODUCT, x, inverse)
    return combined(call.draft, Elementwise.PRODUCT, x, 1 / by.astype(np.float64))


def _select(call: Call) -> Tensor:
    chosen = call.fixed(0).astype(np.float32)
    parts = []
    for place, share in ((1, chosen), (2, 1 - chosen)):
        each = call.inputs[place]
        if isinstance(each, View):
            parts.append(combined(call.draft, Elementwise.PRODUCT, each, share))
        else:  # infinity where it is not chosen is no number
            wide = np.broadcast_to(each, np.broadcast_shapes(each.shape, share.shape))
            parts.append(np.where(share > 0, wide, 0).astype(np.float32))
    return combined(call.draft, Elementwise.SUM, *parts)


def _matmul(call: Call) -> Tensor:
    flags = ("transpose_a", "transpose_b") if call.op == "MatMul" else ("adj_x", "adj_y")
    left, right = (call.attribute(flag) for flag in flags)
    equation = f"...{'ji' if left else 'ij'},...{'kj' if right else 'jk'}->...ik"
    return contracted(call.draft, equation, call.inputs[0], call.inputs[1])


def _einsum(call: Call) -> Tensor:
    if len(call.inputs) != 2:
        raise ValueError(f"it takes {len(call.inputs)} operands")
    return contracted(call.draft, call.attribute("equation"), call.inputs[0], call.inputs[1])


def _reduce(call: Call) -> Tensor:
    x = call.live()
    axes = [axis % len(x.shape) for axis in call.integers(1)]
    keep = bool(call.attribute("keep_dims"))
    if call.op == "Max":
        return largest(call.draft, x, axes, keep=keep)
    made = averaged(call.draft, x, axes, keep=keep)
    if call.op == "Mean":
        return made
    count = math.prod(x.shape[axis] for axis in axes)
    return scaled(call.draft, made, count)


def _batch_norm(call: Call) -> list[Tensor]:
    x = call.live()
    gamma, beta, mean, variance = (np.asarray(call.fixed(p), np.float64) for p in range(1, 5))
    factor = gamma / np.sqrt(variance + call.attribute("epsilon"))
    shape = [1] * len(x.shape)
    shape[call.axes[2]] = -1
    scaled = combined(call.draft, Elementwise.PRODUCT, x, factor.reshape(shape))
    term = (beta - mean * factor).reshape(shape)
    return [combined(call.draft, Elementwise.SUM, scaled, term)]


def _activation(kind: Activation) -> Rule:
    return lambda call: activated(call.draft, kind, call.live())


def _softmax(call: Call) -> Tensor:
    x = call.live()
    return along(call.draft, x, len(x.shape) - 1, Softmax())


ARITHMETIC: dict[str, Rule] = {
    **dict.fromkeys(("Add", "AddV2", "AddN"), _sum),
    "Sub": _sub,
    "Neg": _neg,
    "BiasAdd": _bias,
    "Mul": _mul,
    "Square": _square,
    **dict.fromkeys(("Div", "RealDiv"), _div),
    **dict.fromkeys(("Select", "SelectV2"), _select),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("Mean", "Sum", "Max"), _reduce),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _batch_norm),
    "Relu": _activation(Activation.RELU),
    "Relu6": _activation(Activation.RELU6),
    "Sigmoid": _activation(Activation.SIGMOID),
    "Tanh": _activation(Activation.TANH),
    **dict.fromkeys(("Reciprocal", "Inv"), _activation(Activation.RECIPROCAL)),
    "Softmax": _softmax,
}
