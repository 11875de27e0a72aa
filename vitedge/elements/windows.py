"""Cuts a grid of tokens into windows that are worked on apart (arXiv:2103.14030)."""

from __future__ import annotations

from collections.abc import Callable

from vitedge.network.network import Builder, Value
from vitedge.network.operators import Reshape, Take, Transpose


def windows(
    net: Builder,
    x: Value,
    inner: Callable[[Builder, Value], Value],
    name: str,
    *,
    grid: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int] = (0, 0),
) -> Value:
    """Tokens ``(rows * columns, dim)`` to tokens, by way of ``(windows, tokens, dim)``.

    Args:
        net: The builder that makes the values.
        x: The tokens, row by row.
        inner: The function of the windows; it keeps their number and that of their tokens.
        name: The name of the block that it belongs to.
        grid: Rows and columns of tokens.
        window: Rows and columns of a window; they divide those of the grid.
        shift: The number of rows and columns by which the grid is rolled up and left before it is
            cut; it is rolled back afterwards.
    """
    (rows, columns), (height, width), dim = grid, window, x.shape[-1]
    down, across = rows // height, columns // width
    x = net(f"{name}/grid", Reshape((rows, columns, dim)), x)
    x = _rolled(net, x, shift, f"{name}/rolled")
    x = net(f"{name}/cut", Reshape((down, height, across, width, dim)), x)
    x = net(f"{name}/sorted", Transpose((0, 2, 1, 3, 4)), x)
    x = net(f"{name}/windows", Reshape((down * across, height * width, dim)), x)
    x = inner(net, x)
    dim = x.shape[-1]
    x = net(f"{name}/uncut", Reshape((down, across, height, width, dim)), x)
    x = net(f"{name}/unsorted", Transpose((0, 2, 1, 3, 4)), x)
    x = net(f"{name}/ungrid", Reshape((rows, columns, dim)), x)
    x = _rolled(net, x, (-shift[0], -shift[1]), f"{name}/unrolled")
    return net(f"{name}/tokens", Reshape((rows * columns, dim)), x)


def _rolled(net: Builder, x: Value, shift: tuple[int, int], name: str) -> Value:
    """The grid ``(rows, columns, dim)`` that begins at row and column ``shift``."""
    for axis, (steps, label) in enumerate(zip(shift, ("rows", "columns"), strict=True)):
        if steps:
            size = x.shape[axis]
            places = tuple((place + steps) % size for place in range(size))
            x = net(f"{name}/{label}", Take(axis, places), x)
    return x
