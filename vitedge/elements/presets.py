"""The published sizes of vision transformers, and fresh weights for any size."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import UsageError
from vitedge.network.operators import Array, Linear, Norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vitedge.images.preprocess import Preprocessing
    from vitedge.network.network import Network

NORM_EPS = 1e-6
_SMALL_STD = 0.02


@dataclass(frozen=True)
class Preset:
    """A published size: square images of square patches.

    Attributes:
        image_size: Side of the input in pixels.
        patch_size: Side of a patch in pixels.
        dim: Width of the residual stream.
        depth: Number of blocks.
        heads: Attention heads per block; each is ``dim / heads`` wide.
        mlp_dim: Width of the hidden layer of each MLP.
        prefix_tokens: Learned tokens before the patches.
        pooling: The tokens that the head reads.
    """

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    prefix_tokens: int = 1
    pooling: Pooling = Pooling.CLASS


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # arXiv:2010.11929, table 1; Ti and S from arXiv:2106.10270, table 2.
        "tiny": Preset(224, 16, 192, 12, 3, 768),
        "small": Preset(224, 16, 384, 12, 6, 1536),
        "base": Preset(224, 16, 768, 12, 12, 3072),
        "large": Preset(224, 16, 1024, 24, 16, 4096),
        "huge": Preset(224, 14, 1280, 32, 16, 5120),
        # arXiv:2012.12877, table 1; the distilled ones read a second token.
        "deit-tiny": Preset(224, 16, 192, 12, 3, 768),
        "deit-small": Preset(224, 16, 384, 12, 6, 1536),
        "deit-base": Preset(224, 16, 768, 12, 12, 3072),
        "deit-tiny-distilled": Preset(224, 16, 192, 12, 3, 768, 2, Pooling.DISTILLED),
        "deit-small-distilled": Preset(224, 16, 384, 12, 6, 1536, 2, Pooling.DISTILLED),
        "deit-base-distilled": Preset(224, 16, 768, 12, 12, 3072, 2, Pooling.DISTILLED),
    }
)


def preset(
    name: str,
    *,
    classes: int,
    image_size: int | None = None,
    patch_size: int | None = None,
    channels: int = 3,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    mlp_dim: int | None = None,
) -> ViTConfig:
    """The config of a published size, or of one that differs from it where a value is given.

    Raises:
        UsageError: There is no such preset, or the sizes contradict each other.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset '{name}'; known: {', '.join(PRESETS)}")
    base = PRESETS[name]
    side, patch = image_size or base.image_size, patch_size or base.patch_size
    width, head_count = dim or base.dim, heads or base.heads
    if width % head_count:
        raise UsageError(f"a width of {width} cannot be split into {head_count} heads")
    try:
        return ViTConfig(
            image_size=(side, side),
            patch_size=(patch, patch),
            channels=channels,
            dim=width,
            depth=depth or base.depth,
            heads=head_count,
            head_dim=width // head_count,
            mlp_dim=mlp_dim or (4 * dim if dim else base.mlp_dim),
            classes=classes,
            prefix_tokens=base.prefix_tokens,
            pooling=base.pooling,
            attention_scale=(width // head_count) ** -0.5,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def initialize(
    config: ViTConfig, preprocessing: Preprocessing, labels: Sequence[str] = (), *, seed: int = 0
) -> Network:
    """A plain ViT with untrained weights, initialised as in the code of arXiv:2010.11929.

    Weight matrices are Glorot-uniform, the patch projection is normal and scaled by its inputs
    (LeCun), biases are zero. Tokens, positions and the head come from a normal distribution of
    standard deviation 0.02, truncated at two deviations, as in DeiT (arXiv:2012.12877). DeiT's
    0.02 for all else is Glorot's at a width of 2,500: narrow models hardly learn from it.
    """
    rng = np.random.default_rng(seed)
    dim, wide = config.dim, config.attention_dim

    def glorot(inputs: int, outputs: int) -> Linear:
        bound = (6 / (inputs + outputs)) ** 0.5
        weight = rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        return Linear(weight, np.zeros(outputs, np.float32))

    def normal(inputs: int, outputs: int, std: float) -> Linear:
        return Linear(_truncated(rng, (inputs, outputs), std), np.zeros(outputs, np.float32))

    def norm() -> Norm:
        return Norm(np.ones(dim, np.float32), np.zeros(dim, np.float32), NORM_EPS)

    def block() -> Block:
        return Block(
            norm1=norm(),
            q=glorot(dim, wide),
            k=glorot(dim, wide),
            v=glorot(dim, wide),
            out=glorot(wide, dim),
            norm2=norm(),
            fc1=glorot(dim, config.mlp_dim),
            fc2=glorot(config.mlp_dim, dim),
        )

    patch_inputs = config.patch_size[0] * config.patch_size[1] * config.channels
    vit = PlainViT(
        config=config,
        patch=normal(patch_inputs, dim, patch_inputs**-0.5),
        prefix=_truncated(rng, (config.prefix_tokens, dim), _SMALL_STD),
        positions=_truncated(rng, (config.patches, dim), _SMALL_STD),
        blocks=tuple(block() for _ in range(config.depth)),
        norm=norm(),
        head=fresh_head(config.pooled_dim, config.classes, rng),
        preprocessing=preprocessing,
        labels=tuple(labels),
    )
    return network_of(vit)


def fresh_head(inputs: int, classes: int, rng: np.random.Generator) -> Linear:
    """An untrained classifier: near zero, so that it disturbs little at first."""
    return Linear(_truncated(rng, (inputs, classes), _SMALL_STD), np.zeros(classes, np.float32))


def _truncated(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> Array:
    """Normal values, drawn again while they lie beyond two standard deviations."""
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond))
    return (values * std).astype(np.float32)
