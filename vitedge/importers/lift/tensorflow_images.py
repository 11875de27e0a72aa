"""TensorFlow's convolutions, pools and resizes."""

from __future__ import annotations

import numpy as np

from vitedge.importers.lift.draft import Tensor
from vitedge.importers.lift.images_read import (
    Pair,
    Sliding,
    convolved,
    pooled,
    resized,
)
from vitedge.importers.lift.tensorflow_call import NHWC, Call, Rule
from vitedge.importers.lift.transposed import transposed_convolution
from vitedge.network.operators import PoolKind, ResizeKind


def _sliding(call: Call, window: Pair, gaps: Pair = (1, 1)) -> Sliding:
    x, strides, padding = call.live(), call.pair("strides"), call.attribute("padding")
    if padding == "VALID":
        return Sliding(strides, dilations=gaps)
    rows, columns = call.axes[:2]
    if padding == "EXPLICIT":
        given = call.attribute("explicit_paddings")
        pads = [(int(given[2 * axis]), int(given[2 * axis + 1])) for axis in (rows, columns)]
        return Sliding(strides, (pads[0], pads[1]), gaps)
    pads = []
    for axis, size, stride, gap in zip((rows, columns), window, strides, gaps, strict=True):
        length = x.shape[axis]
        reach = (-(-length // stride) - 1) * stride + (size - 1) * gap + 1
        whole = max(reach - length, 0)
        pads.append((whole // 2, whole - whole // 2))
    return Sliding(strides, (pads[0], pads[1]), gaps)


def _conv(call: Call) -> Tensor:
    x, weight = call.live(), call.fixed(1)
    sliding = _sliding(call, weight.shape[:2], call.pair("dilations"))
    groups = x.shape[call.axes[2]] // weight.shape[2]
    return convolved(call.draft, x, call.axes, weight, None, sliding, groups)


def _conv_transposed(call: Call) -> Tensor:
    """``Conv2DTranspose``: the gradient of a convolution by its input."""
    size, weight, x = call.integers(0), call.fixed(1), call.live(2)
    if set(call.pair("dilations")) != {1}:
        raise ValueError("it has dilations")
    rows, columns, channels = call.axes
    window, strides = weight.shape[:2], call.pair("strides")
    padding, extra = [], []
    for axis, kernel, stride in zip((rows, columns), window, strides, strict=True):
        spread_out = (x.shape[axis] - 1) * stride + kernel
        cut = max(spread_out - size[axis], 0) if call.attribute("padding") == "SAME" else 0
        padding.append((cut // 2, cut - cut // 2))
        extra.append(size[axis] - spread_out + cut)
    if call.attribute("padding") == "EXPLICIT" or x.shape[channels] != weight.shape[3]:
        raise ValueError("it has paddings of its own, or groups")
    turned = weight.transpose(0, 1, 3, 2)
    return transposed_convolution(
        call.draft,
        x,
        call.axes,
        turned,
        None,
        strides=strides,
        padding=(padding[0], padding[1]),
        extra=(extra[0], extra[1]),
    )


def _depthwise(call: Call) -> Tensor:
    x, weight = call.live(), call.fixed(1)
    rows, columns, channels, times = weight.shape
    sliding = _sliding(call, (rows, columns), call.pair("dilations"))
    turned = weight.reshape(rows, columns, 1, channels * times)
    return convolved(call.draft, x, call.axes, turned, None, sliding, channels)


def _patches(call: Call) -> Tensor:
    x = call.live()
    (_, rows, columns, _), (_, down, across, _) = (
        call.attribute(name) for name in ("ksizes", "strides")
    )
    gaps = call.attribute("rates")
    channels = x.shape[3]
    count = rows * columns * channels
    weight = np.eye(count, dtype=np.float32).reshape(rows, columns, channels, count)
    if call.attribute("padding") != "VALID" and (
        (rows, columns) != (down, across) or x.shape[1] % rows or x.shape[2] % columns
    ):
        raise ValueError("it cuts patches beyond the image")
    sliding = Sliding((down, across), dilations=(gaps[1], gaps[2]))
    return convolved(call.draft, x, NHWC, weight, None, sliding, 1)


def _pool(call: Call) -> Tensor:
    kind = PoolKind.MAX if call.op == "MaxPool" else PoolKind.AVERAGE
    window = call.pair("ksize")
    return pooled(call.draft, call.live(), call.axes, kind, window, _sliding(call, window))


def _resize(call: Call) -> Tensor:
    x, (height, width) = call.live(), call.integers(1)
    half, corners = call.attribute("half_pixel_centers"), call.attribute("align_corners")
    if call.op == "ResizeBilinear" and half != corners:
        kind = ResizeKind.BILINEAR if half else ResizeKind.BILINEAR_CORNERS
    elif call.op == "ResizeNearestNeighbor" and not corners:
        kind = ResizeKind.NEAREST
        if not half and (height % x.shape[1] or width % x.shape[2]):
            raise ValueError("it takes the nearest of uneven places")
    else:
        raise ValueError("it places pixels by their corners")
    return resized(call.draft, x, NHWC, (height, width), kind)


IMAGES: dict[str, Rule] = {
    "Conv2D": _conv,
    "Conv2DBackpropInput": _conv_transposed,
    "DepthwiseConv2dNative": _depthwise,
    "ExtractImagePatches": _patches,
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor"), _resize),
}
