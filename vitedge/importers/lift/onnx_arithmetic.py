"""ONNX's sums, products and non-linearities."""

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
from vitedge.importers.lift.onnx_call import Call, Rule
from vitedge.importers.lift.views import View
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.operators import Norm, Softmax


def _sum(call: Call) -> Tensor:
    made = call.any(0)
    for place in range(1, len(call.inputs)):
        made = combined(call.draft, Elementwise.SUM, made, call.any(place))
    return made


def _mean_of_all(call: Call) -> Tensor:
    return scaled(call.draft, _sum(call), 1 / len(call.inputs))


def _sub(call: Call) -> Tensor:
    other = negated(call.draft, call.any(1))
    return combined(call.draft, Elementwise.SUM, call.any(0), other)


def _mul(call: Call) -> Tensor:
    return combined(call.draft, Elementwise.PRODUCT, call.any(0), call.any(1))


def _div(call: Call) -> Tensor:
    x, by = call.any(0), call.any(1)
    if isinstance(by, View):
        inverse = activated(call.draft, Activation.RECIPROCAL, by)
        return combined(call.draft, Elementwise.PRODUCT, x, inverse)
    if not isinstance(x, View) and x.dtype.kind == "i":
        return x // by
    return combined(call.draft, Elementwise.PRODUCT, x, 1 / by.astype(np.float64))


def _neg(call: Call) -> Tensor:
    return negated(call.draft, call.any(0))


def _pow(call: Call) -> Tensor:
    power = call.fixed(1)
    if power is None or power.size != 1 or float(power.reshape(())) != 2:
        raise ValueError("it takes a power other than 2")
    return combined(call.draft, Elementwise.PRODUCT, call.live(), call.live())


def _where(call: Call) -> Tensor:
    condition = call.fixed(0)
    assert condition is not None
    chosen = condition.astype(np.float32)
    parts = []
    for place, share in ((1, chosen), (2, 1 - chosen)):
        each = call.any(place)
        if isinstance(each, View):
            parts.append(combined(call.draft, Elementwise.PRODUCT, each, share))
        else:  # infinity where it is not chosen is no number
            wide = np.broadcast_to(each, np.broadcast_shapes(each.shape, share.shape))
            parts.append(np.where(share > 0, wide, 0).astype(np.float32))
    return combined(call.draft, Elementwise.SUM, *parts)


def _matmul(call: Call) -> Tensor:
    a, b = call.any(0), call.any(1)
    left = "...ij" if len(a.shape) > 1 else "j"
    right = "...jk" if len(b.shape) > 1 else "j"
    out = "..." + ("i" if len(left) > 1 else "") + ("k" if len(right) > 1 else "")
    if "." not in left + right:
        out = ""
    return contracted(call.draft, f"{left},{right}->{out}", a, b)


def _gemm(call: Call) -> Tensor:
    attributes = call.attributes
    left, right = (
        ("ji" if attributes.get("transA") else "ij"),
        ("kj" if attributes.get("transB") else "jk"),
    )
    made = contracted(call.draft, f"{left},{right}->ik", call.any(0), call.any(1))
    made = scaled(call.draft, made, attributes.get("alpha", 1.0))
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return made
    added = scaled(call.draft, call.any(2), attributes.get("beta", 1.0))
    return combined(call.draft, Elementwise.SUM, made, added)


def _einsum(call: Call) -> Tensor:
    equation = str(call.attributes["equation"])
    if len(call.inputs) != 2:
        raise ValueError(f"it takes {len(call.inputs)} operands")
    return contracted(call.draft, equation, call.any(0), call.any(1))


def _reduce(call: Call) -> Tensor:
    x = call.live()
    axes = call.integers(1, "axes")
    keep = bool(call.attributes.get("keepdims", 1))
    if axes is None:
        if call.attributes.get("noop_with_empty_axes"):
            return x
        axes = list(range(len(x.shape)))
    axes = [axis % len(x.shape) for axis in axes]
    if call.op == "ReduceMax":
        return largest(call.draft, x, axes, keep=keep)
    made = averaged(call.draft, x, axes, keep=keep)
    if call.op == "ReduceMean":
        return made
    count = math.prod(x.shape[axis] for axis in axes)
    return scaled(call.draft, made, count)


_TINY = 1e-24
"""Epsilon of the length of a vector: its root is a length that no float32 activation has."""


def _length(call: Call) -> Tensor:
    """The length of vectors: the product with the unit vector, summed."""
    x, axes = call.live(), call.integers(1, "axes")
    rank = len(x.shape)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    rest = [axis for axis in range(rank) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in axes)
    sizes = [x.shape[axis] for axis in rest]
    vectors = call.draft.reshaped(x.transposed([*rest, *axes]), (*sizes, count))
    assert isinstance(vectors, View)
    norm = Norm(np.ones(count, np.float32), np.zeros(count, np.float32), _TINY, NormKind.L2)
    unit = along(call.draft, vectors, len(rest), norm)
    parts = combined(call.draft, Elementwise.PRODUCT, vectors, unit)
    assert isinstance(parts, View)
    made = scaled(call.draft, averaged(call.draft, parts, [len(rest)], keep=False), count)
    if not call.attributes.get("keepdims", 1):
        return made
    kept = tuple(1 if axis in axes else x.shape[axis] for axis in range(rank))
    return call.draft.reshaped(made, kept)


def _batch_norm(call: Call) -> Tensor:
    x = call.live()
    gamma, beta, mean, variance = (
        np.asarray(call.fixed(place), np.float64) for place in range(1, 5)
    )
    factor = gamma / np.sqrt(variance + call.attributes.get("epsilon", 1e-5))
    shape = (-1, *(1,) * (len(x.shape) - 2))
    scaled = combined(call.draft, Elementwise.PRODUCT, x, factor.reshape(shape))
    return combined(call.draft, Elementwise.SUM, scaled, (beta - mean * factor).reshape(shape))


def _instance_norm(call: Call) -> Tensor:
    """Torch's spelling of group norm: every row of ``(N, groups, numbers)`` by itself."""
    x, scale, bias = call.live(), call.fixed(1), call.fixed(2)
    if len(x.shape) != 3 or scale is None or bias is None:
        raise ValueError(f"it norms {len(x.shape) - 2} axes")
    count = x.shape[2]
    eps = float(call.attributes.get("epsilon", 1e-5))
    norm = Norm(np.ones(count, np.float32), np.zeros(count, np.float32), eps)
    made = along(call.draft, x, 2, norm)
    scaled_rows = combined(call.draft, Elementwise.PRODUCT, made, scale[:, None])
    return combined(call.draft, Elementwise.SUM, scaled_rows, bias[:, None])


def _activation(kind: Activation) -> Rule:
    return lambda call: activated(call.draft, kind, call.live())


def _gelu(call: Call) -> Tensor:
    tanh = call.attributes.get("approximate", "none") == "tanh"
    kind = Activation.GELU_TANH if tanh else Activation.GELU
    return activated(call.draft, kind, call.live())


def _softmax(call: Call) -> Tensor:
    x = call.live()
    axis = call.attributes.get("axis", -1 if call.opset >= 13 else 1) % len(x.shape)
    if call.opset < 13 and axis != len(x.shape) - 1:
        raise ValueError("it flattens its axes")
    return along(call.draft, x, axis, Softmax())


ARITHMETIC: dict[str, Rule] = {
    "Add": _sum,
    "Sum": _sum,
    "Mean": _mean_of_all,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "Pow": _pow,
    "Where": _where,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "ReduceL2": _length,
    "InstanceNormalization": _instance_norm,
    "BatchNormalization": _batch_norm,
    "Softmax": _softmax,
    "Gelu": _gelu,
    "Relu": _activation(Activation.RELU),
    "Sigmoid": _activation(Activation.SIGMOID),
    "Tanh": _activation(Activation.TANH),
    "Reciprocal": _activation(Activation.RECIPROCAL),
    "HardSwish": _activation(Activation.HARD_SWISH),
}
