"""Describes a network in a few words: for ``inspect`` and ``import``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from vitedge.network.network import Network
from vitedge.network.operators import Activate, Convolution, Linear, Norm, Shape
from vitedge.network.patch_grid import patch_grid
from vitedge.network.structure import attentions, feeds_activation, readers


@dataclass(frozen=True)
class Summary:
    """Sizes and choices of a network, as its operators show them.

    Attributes:
        image_size: Height and width in pixels.
        channels: 3 for RGB, 1 for grey.
        patch_size: Height and width of a patch in pixels, or None where the first layer is none on
            patches.
        dim: Width of what the first layer makes.
        depth: Number of blocks, which have an attention each.
        heads: The different numbers of heads, in ascending order.
        head_dim: The different widths of queries, in ascending order.
        mlp_dim: Most channels that a non-linearity behind a linear layer reads; 0 without one.
        tokens: Most keys that an attention has; 0 without one.
        activations: The kinds of its non-linearities.
        norms: The kinds of its norms.
        outputs: The shape of each output by name.
    """

    image_size: tuple[int, int]
    channels: int
    patch_size: tuple[int, int] | None
    dim: int
    depth: int
    heads: tuple[int, ...]
    head_dim: tuple[int, ...]
    mlp_dim: int
    tokens: int
    activations: tuple[str, ...]
    norms: tuple[str, ...]
    outputs: dict[str, Shape]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.depth} blocks", f"{self.dim} wide"]
        if self.heads:
            parts.append(f"{' or '.join(map(str, self.heads))} heads")
        return ", ".join(parts)


def summary(network: Network) -> Summary:
    """Looks at the operators of a network."""
    read = readers(network)
    operators = [(value, value.operator) for value in network.values]
    first = next(value for value, each in operators if isinstance(each, Linear | Convolution))
    grid = patch_grid(first)
    found = attentions(network)
    wide = [
        value.shape[-1]
        for value, each in operators
        if isinstance(each, Linear) and feeds_activation(value, read)
    ]
    height, width, channels = network.image_shape
    return Summary(
        image_size=(height, width),
        channels=channels,
        patch_size=None if grid is None else grid.patch_size,
        dim=first.shape[-1],
        depth=len(found),
        heads=tuple(sorted({math.prod(each.scores.shape[:-2]) for each in found})),
        head_dim=tuple(sorted({each.queries.shape[-1] for each in found})),
        mlp_dim=max(wide, default=0),
        tokens=max((each.scores.shape[-1] for each in found), default=0),
        activations=tuple(
            sorted({str(each.kind) for _, each in operators if isinstance(each, Activate)})
        ),
        norms=tuple(sorted({str(each.kind) for _, each in operators if isinstance(each, Norm)})),
        outputs={name: value.shape for name, value in network.outputs.items()},
    )
