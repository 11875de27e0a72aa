"""The size of a model that starts from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vitedge.elements.kinds import Pooling
from vitedge.elements.presets import initialize, preset
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

if TYPE_CHECKING:
    from vitedge.network.network import Network


@dataclass(frozen=True)
class Size:
    """A preset, and where the model differs from it; None means as the preset.

    Attributes:
        preset: Name of a published size.
        image_size: Side of the input in pixels.
        patch_size: Side of a patch in pixels.
        dim: Width of the residual stream.
        depth: Number of blocks.
        heads: Attention heads per block.
        mlp_dim: Width of the hidden layer of each MLP.
        channels: 3 for RGB, 1 for grey.
    """

    preset: str = "tiny"
    image_size: int | None = None
    patch_size: int | None = None
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp_dim: int | None = None
    channels: int = 3


def fresh_network(
    size: Size, class_names: Sequence[str], *, distillation_token: bool = False, seed: int = 0
) -> Network:
    """An untrained model with one logit for each class.

    Raises:
        UsageError: There is no such preset, or its parts do not fit each other.
    """
    config = preset(
        size.preset,
        classes=len(class_names),
        image_size=size.image_size,
        patch_size=size.patch_size,
        channels=size.channels,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        mlp_dim=size.mlp_dim,
    )
    if distillation_token and config.pooling is not Pooling.DISTILLED:
        config = replace(config, prefix_tokens=2, pooling=Pooling.DISTILLED)
    grey = size.channels == 1
    preprocessing = Preprocessing(
        size=config.image_size,
        channels=size.channels,
        mean=(0.5,) if grey else IMAGENET_MEAN,
        std=(0.5,) if grey else IMAGENET_STD,
    )
    return initialize(config, preprocessing, tuple(class_names), seed=seed)
