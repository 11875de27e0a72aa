"""The first layer of most vision transformers: a linear layer on an image cut into patches."""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.network.network import Value
from vitedge.network.operators import Pixels, Reshape, Standardize, Transpose


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """A linear layer on patches that do not overlap: a convolution whose stride is its kernel.

    Attributes:
        image: The image that is cut, ``(height, width, channels)``.
        layer: The linear layer.
        patch_size: Height and width of a patch.
        grid: Rows and columns of patches.
        moves: The values between image and layer.
    """

    image: Value
    layer: Value
    patch_size: tuple[int, int]
    grid: tuple[int, int]
    moves: tuple[Value, ...]


def patch_grid(layer: Value) -> PatchGrid | None:
    """The patches that a linear layer reads, where it reads an image cut into such."""
    chain: list[Value] = []
    value = layer
    while len(chain) < 3 and len(value.inputs) == 1:
        value = value.inputs[0]
        chain.append(value)
    match [each.operator for each in chain]:
        case [
            Reshape(to=(_, _)),
            Transpose(axes=(0, 2, 1, 3)),
            Reshape(to=(rows, height, columns, _)),
        ]:
            image = chain[-1].inputs[0]
        case _:
            return None
    if not isinstance(image.operator, Pixels | Standardize):
        return None
    wide, channels = image.shape[1], image.shape[2]
    size, grid = (height, wide // columns), (rows, columns)
    is_grid = (
        image.shape == (rows * height, columns * size[1], channels)
        and chain[0].shape == (rows * columns, height * size[1] * channels)
        and chain[2].shape[3] == size[1] * channels
    )
    return PatchGrid(image, layer, size, grid, tuple(reversed(chain))) if is_grid else None
