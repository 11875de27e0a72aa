"""ONNX's convolutions, pools and resizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitedge.importers.lift.arithmetic import (
    Elementwise,
    activated,
    along,
    combined,
    negated,
    scaled,
)
from vitedge.importers.lift.draft import Tensor
from vitedge.importers.lift.folding import folded
from vitedge.importers.lift.images_read import Sliding, convolved, pooled, resized
from vitedge.importers.lift.moving import averaged
from vitedge.importers.lift.transposed import transposed_convolution
from vitedge.importers.lift.views import View
from vitedge.network.kinds import Activation
from vitedge.network.operators import Array, Linear, PoolKind, ResizeKind

if TYPE_CHECKING:
    pass
from vitedge.importers.lift.onnx_call import Call, Rule

_ROWS, _COLUMNS, _CHANNELS = 2, 3, 1
_NCHW = (_ROWS, _COLUMNS, _CHANNELS)


def _pads(call: Call, window: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    attributes = call.attributes
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        strides = attributes.get("strides", (1, 1))
        gaps = attributes.get("dilations", (1, 1))
        for size, each, stride, gap in zip(
            call.live().shape[2:], window, strides, gaps, strict=True
        ):
            whole = max((-(-size // stride) - 1) * stride + (each - 1) * gap + 1 - size, 0)
            small = whole // 2
            found.append(
                (small, whole - small) if automatic == "SAME_UPPER" else (whole - small, small)
            )
        return found[0], found[1]
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if attributes.get("ceil_mode"):
        more = []
        sizes = zip(call.live().shape[2:], window, attributes.get("strides", (1, 1)), strict=True)
        for (size, each, stride), pad in zip(sizes, (top + bottom, left + right), strict=True):
            more.append(-(size + pad - each) % stride)
        bottom, right = bottom + more[0], right + more[1]
    return (top, bottom), (left, right)


def _sliding(call: Call, window: Sequence[int]) -> Sliding:
    if len(call.live().shape) != 4:
        raise ValueError(f"it slides over {len(call.live().shape) - 2} axes")
    strides, gaps = (tuple(call.attributes.get(n, (1, 1))) for n in ("strides", "dilations"))
    return Sliding((strides[0], strides[1]), _pads(call, window), (gaps[0], gaps[1]))


def _conv(call: Call) -> Tensor:
    if len(call.live().shape) == 3:
        return _of_line(call, _conv)
    weight, bias = call.fixed(1), call.fixed(2)
    assert weight is not None
    sliding = _sliding(call, weight.shape[2:])
    turned = weight.transpose(2, 3, 1, 0)
    groups = int(call.attributes.get("group", 1))
    return convolved(call.draft, call.live(), _NCHW, turned, bias, sliding, groups)


def _of_line(call: Call, rule: Rule) -> Tensor:
    """A convolution or pool of ``(N, C, length)``, as of an image of one row."""
    x = call.live()
    attributes = dict(call.attributes)
    for name in ("strides", "dilations", "kernel_shape"):
        if name in attributes:
            attributes[name] = [1, *attributes[name]]
    if "pads" in attributes:
        before, after = attributes["pads"]
        attributes["pads"] = [0, before, 0, after]
    image = call.draft.reshaped(x, (*x.shape[:2], 1, x.shape[2]))
    inputs = (image, *call.inputs[1:])
    if len(inputs) > 1:
        weight = call.fixed(1)
        assert weight is not None
        inputs = (image, weight[:, :, None], *call.inputs[2:])
    made = rule(Call(call.draft, call.op, inputs, attributes, call.opset))
    assert isinstance(made, View)
    return call.draft.reshaped(made, (*made.shape[:2], made.shape[3]))


def _conv_transpose(call: Call) -> Tensor:
    weight, bias = call.fixed(1), call.fixed(2)
    assert weight is not None
    attributes = call.attributes
    if attributes.get("group", 1) != 1 or set(attributes.get("dilations", (1,))) != {1}:
        raise ValueError("it has groups or dilations")
    if "output_shape" in attributes or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("its padding follows from the shape of its result")
    turned = weight.transpose(2, 3, 0, 1)
    down, across = attributes.get("strides", (1, 1))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    extra = tuple(attributes.get("output_padding", (0, 0)))
    return transposed_convolution(
        call.draft,
        call.live(),
        _NCHW,
        turned,
        bias,
        strides=(down, across),
        padding=((top, bottom), (left, right)),
        extra=(extra[0], extra[1]),
    )


def _pool(call: Call) -> Tensor:
    if len(call.live().shape) == 3:
        return _of_line(call, _pool)
    kind = PoolKind.MAX if call.op == "MaxPool" else PoolKind.AVERAGE
    window = tuple(call.attributes["kernel_shape"])
    sliding = _sliding(call, window)
    counts = bool(call.attributes.get("count_include_pad", 0))
    top, left, bottom, right = call.attributes.get("pads", (0, 0, 0, 0))
    if counts and sliding.padding != ((top, bottom), (left, right)):  # rounded up by ``ceil_mode``
        raise ValueError("it counts some of the padding")
    return pooled(
        call.draft,
        call.live(),
        _NCHW,
        kind,
        (window[0], window[1]),
        sliding,
        counts_padding=counts,
    )


def _global_pool(call: Call) -> Tensor:
    x = call.live()
    return averaged(call.draft, x, range(2, len(x.shape)), keep=True)


_RESIZES = {
    ("linear", "half_pixel"): ResizeKind.BILINEAR,
    ("linear", "pytorch_half_pixel"): ResizeKind.BILINEAR,
    ("linear", "align_corners"): ResizeKind.BILINEAR_CORNERS,
}


def _resize(call: Call) -> Tensor:
    x = call.live()
    if len(x.shape) != 4:
        raise ValueError(f"it resizes {len(x.shape)} axes")
    sizes, scales = call.fixed(3), call.fixed(2)
    if sizes is None or not sizes.size:
        if scales is None or not scales.size:
            raise ValueError("it has no size")
        sizes = np.floor(np.asarray(x.shape) * scales + 1e-6)
    else:
        scales = np.asarray(sizes) / np.asarray(x.shape)
    height, width = int(sizes[-2]), int(sizes[-1])
    mode = call.attributes.get("mode", "nearest")
    how = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    if call.attributes.get("antialias"):
        raise ValueError("it smooths")
    if mode == "nearest":
        return _nearest(call, x, (height, width), how)
    if (mode, how) == ("cubic", "half_pixel") and not call.attributes.get("exclude_outside"):
        curve = float(call.attributes.get("cubic_coeff_a", -0.75))
        for axis, size in ((_ROWS, height), (_COLUMNS, width)):
            matrix = cubic_matrix(x.shape[axis], size, float(scales[axis]), curve)
            x = along(call.draft, x, axis, Linear(matrix, np.zeros(size, np.float32)))
        return x
    kind = _RESIZES.get((mode, how))
    if kind is None:
        raise ValueError(f"it resizes by {mode} and {how}")
    return resized(call.draft, x, _NCHW, (height, width), kind)


def cubic_matrix(old: int, new: int, scale: float, curve: float) -> Array:
    """The share that each of the ``new`` places has of each of the ``old``, ``(old, new)``.

    Cubic convolution (Keys, 1981) of four neighbours; beyond the edge stands what is at the edge.
    """
    where = (np.arange(new) + 0.5) / scale - 0.5
    first = np.floor(where).astype(int)
    matrix = np.zeros((old, new))
    for step in range(-1, 3):
        far = np.abs(where - (first + step))
        near_share = ((curve + 2) * far - (curve + 3)) * far * far + 1
        far_share = ((far - 5) * far + 8) * far * curve - 4 * curve
        share = np.where(far <= 1, near_share, far_share)
        np.add.at(matrix, (np.clip(first + step, 0, old - 1), np.arange(new)), share)
    return matrix.astype(np.float32)


def _nearest(call: Call, x: View, size: tuple[int, int], how: str) -> Tensor:
    for old, new in zip(x.shape[2:], size, strict=True):
        if new % old:
            raise ValueError(f"it takes the nearest of {old} pixels for {new}")
    del how  # where each pixel is repeated, all ways of rounding agree but of ties
    return resized(call.draft, x, _NCHW, size, ResizeKind.NEAREST)


def _clip(call: Call) -> Tensor:
    low, high = (
        call.fixed(place) if len(call.inputs) > place else call.attributes.get(name)
        for place, name in ((1, "min"), (2, "max"))
    )
    bounds = tuple(None if each is None else float(np.reshape(each, ())) for each in (low, high))
    if bounds == (0.0, None):
        return activated(call.draft, Activation.RELU, call.live())
    if bounds == (0.0, 6.0):
        return activated(call.draft, Activation.RELU6, call.live())
    low, high = bounds
    made = call.live()
    if low is not None:  # max(x, low) = relu(x - low) + low
        made = _shifted(
            call, activated(call.draft, Activation.RELU, _shifted(call, made, -low)), low
        )
    if high is not None:  # min(x, high) = high - relu(high - x)
        below = _shifted(call, negated(call.draft, made), high)
        rectified = activated(call.draft, Activation.RELU, below)
        made = _shifted(call, negated(call.draft, rectified), high)
    return made


def _shifted(call: Call, x: Tensor, by: float) -> View:
    made = combined(call.draft, Elementwise.SUM, x, np.asarray(by, np.float64))
    assert isinstance(made, View)
    return made


def _hard_sigmoid(call: Call) -> Tensor:
    """``clip(alpha x + beta, 0, 1)`` as ReLU6 of six times that."""
    slope, height = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    sixfold = _shifted(call, scaled(call.draft, call.live(), 6 * slope), 6 * height)
    return scaled(call.draft, activated(call.draft, Activation.RELU6, sixfold), 1 / 6)


def _col2im(call: Call) -> Tensor:
    size, patch = call.integers(1, ""), call.integers(2, "")
    if size is None or patch is None or len(size) != 2 or len(patch) != 2:
        raise ValueError("it folds no image of two axes")
    if set(call.attributes.get("dilations", (1,))) != {1}:
        raise ValueError("its patches have gaps")
    strides = call.attributes.get("strides", (1, 1))
    top, left, bottom, right = call.attributes.get("pads", (0, 0, 0, 0))
    return folded(
        call.draft,
        call.live(),
        (size[0], size[1]),
        (patch[0], patch[1]),
        strides=(strides[0], strides[1]),
        padding=((top, bottom), (left, right)),
    )


IMAGES: dict[str, Rule] = {
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Col2Im": _col2im,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "Resize": _resize,
}
