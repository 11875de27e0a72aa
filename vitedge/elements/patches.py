"""Cuts an image into patches, each a vector in row, column, channel order (arXiv:2010.11929)."""

from __future__ import annotations

from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array, Reshape, Transpose


def patches(net: Builder, pixels: Value, patch_size: tuple[int, int], name: str) -> Value:
    """``(height, width, channels)`` to ``(patches, patch_height * patch_width * channels)``.

    Args:
        net: The builder that makes the values.
        pixels: The image.
        patch_size: Height and width; they divide those of the image.
        name: The name of the patches.
    """
    height, width, channels = pixels.shape
    patch_height, patch_width = patch_size
    rows, columns = height // patch_height, width // patch_width
    # A row of a patch is contiguous in NHWC, so one transposition sorts them.
    cut = net(f"{name}/cut", Reshape((rows, patch_height, columns, patch_width * channels)), pixels)
    sorted_rows = net(f"{name}/sorted", Transpose((0, 2, 1, 3)), cut)
    size = patch_height * patch_width * channels
    return net(name, Reshape((rows * columns, size)), sorted_rows)


def patchify(pixels: Array, patch_size: tuple[int, int]) -> Array:
    """The patches of images: ``(N, H, W, C)`` to ``(N, patches, inputs)``."""
    n, height, width, channels = pixels.shape
    rows, columns = height // patch_size[0], width // patch_size[1]
    grid = pixels.reshape(n, rows, patch_size[0], columns, patch_size[1], channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)
