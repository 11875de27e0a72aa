"""What the network of a plain ViT was built of, read back by the names that its elements give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitedge.elements.kinds import Pooling
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.operators import Activate, Linear, Norm, Standardize
from vitedge.network.patch_grid import patch_grid
from vitedge.network.summary import summary


@dataclass(frozen=True)
class Plain:
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    grid: tuple[int, int]
    depth: int
    heads: int
    head_dim: int
    prefix_tokens: int
    pooling: Pooling
    activation: Activation
    raw_pixels: bool
    head_hidden: tuple[Linear, ...]
    eps: frozenset[float]
    arrays: dict[str, Any]


def plain(network: Network) -> Plain:
    found = summary(network)
    values = {value.name: value for value in network.values}
    layers = dict(network.named_linears())
    grid = patch_grid(values["patch"])
    assert grid is not None
    prefix = values.get("prefix")
    (activation,) = {
        value.operator.kind
        for name, value in values.items()
        if isinstance(value.operator, Activate) and name.startswith("blocks.")
    }
    return Plain(
        image_size=found.image_size,
        patch_size=grid.patch_size,
        grid=grid.grid,
        depth=found.depth,
        heads=found.heads[0],
        head_dim=found.head_dim[0],
        prefix_tokens=0 if prefix is None else prefix.shape[0],
        pooling=_pooling(values),
        activation=activation,
        raw_pixels=not any(isinstance(each.operator, Standardize) for each in network.values),
        head_hidden=tuple(
            layer for name, layer in layers.items() if name.startswith("head_hidden.")
        ),
        eps=frozenset(
            each.operator.eps for each in network.values if isinstance(each.operator, Norm)
        ),
        arrays=dict(network.named_arrays()),
    )


def _pooling(values: dict[str, Any]) -> Pooling:
    if "pooled/mean" in values:
        return Pooling.CLASS_AND_MEAN if "pooled/class" in values else Pooling.MEAN
    if "pooled/prefix" in values:
        return Pooling.CLASS if values["pooled/prefix"].shape[0] == 1 else Pooling.DISTILLED
    return Pooling.FLATTEN
