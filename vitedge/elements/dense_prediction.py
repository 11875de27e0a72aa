"""Makes a map of the tokens of several blocks: the parts of DPT's decoder (arXiv:2103.13413)."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Convolution,
    Linear,
    Reshape,
    Resize,
    ResizeKind,
    Take,
    Transpose,
)


def as_image(net: Builder, x: Value, prefix_tokens: int, grid: tuple[int, int], name: str) -> Value:
    """Tokens ``(prefix + patches, dim)`` to ``(rows, columns, dim)`` of the patches."""
    if prefix_tokens:
        x = net(f"{name}/patches", Take(0, tuple(range(prefix_tokens, x.shape[0]))), x)
    return net(f"{name}/image", Reshape((*grid, x.shape[-1])), x)


def enlarged(net: Builder, x: Value, layer: Linear, factor: int, name: str) -> Value:
    """A transposed convolution whose squares lie side by side: each pixel becomes a square.

    Args:
        net: The builder that makes the values.
        x: ``(rows, columns, channels)``.
        layer: The layer that each pixel passes; its outputs are the square, row by row, channels
            last.
        factor: Rows and columns of the square.
        name: The name of the enlargement.
    """
    rows, columns, _ = x.shape
    channels = layer.weight.shape[1] // factor**2
    x = net(name, layer, x)
    x = net(f"{name}/squares", Reshape((rows, columns, factor, factor, channels)), x)
    x = net(f"{name}/rows", Transpose((0, 2, 1, 3, 4)), x)
    return net(f"{name}/enlarged", Reshape((rows * factor, columns * factor, channels)), x)


def residual_unit(
    net: Builder, x: Value, first: Convolution, second: Convolution, name: str
) -> Value:
    """Two convolutions, a ReLU before each, beside a residual: ``(rows, columns, channels)``."""
    made = x
    for part, layer in (("conv1", first), ("conv2", second)):
        read = net(f"{name}.{part}/relu", Activate(Activation.RELU), made)
        made = net(f"{name}.{part}", layer, read)
    return net(f"{name}/out", Add(), made, x)


def resized(net: Builder, x: Value, size: tuple[int, int], name: str) -> Value:
    """The map in another height and width; the corner pixels stay in the corners."""
    if x.shape[:2] == size:
        return x
    return net(name, Resize(*size, ResizeKind.BILINEAR_CORNERS), x)
