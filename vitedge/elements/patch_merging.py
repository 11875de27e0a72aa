"""Squares of four tokens become one of more channels, between Swin's stages (arXiv:2103.14030)."""

from __future__ import annotations

from vitedge.network.network import Builder, Value
from vitedge.network.operators import Linear, Norm, Reshape, Transpose


def patch_merging(
    net: Builder,
    x: Value,
    reduction: Linear,
    norm: Norm,
    name: str,
    *,
    grid: tuple[int, int],
    norm_first: bool,
) -> Value:
    """Tokens ``(rows * columns, dim)`` to a quarter as many.

    Args:
        net: The builder that makes the values.
        x: The tokens, row by row.
        reduction: The layer that reads four tokens: left above, left below, right above, right
            below.
        norm: The norm before ``reduction``, or behind it.
        name: The name of the merging.
        grid: Even numbers of rows and columns.
        norm_first: Whether ``norm`` stands before the reduction.
    """
    (rows, columns), dim = grid, x.shape[-1]
    cut = net(f"{name}/cut", Reshape((rows // 2, 2, columns // 2, 2, dim)), x)
    turned = net(f"{name}/squares", Transpose((0, 2, 3, 1, 4)), cut)
    x = net(f"{name}/four", Reshape((rows * columns // 4, 4 * dim)), turned)
    if norm_first:
        return net(f"{name}.reduction", reduction, net(f"{name}.norm", norm, x))
    return net(f"{name}.norm", norm, net(f"{name}.reduction", reduction, x))
