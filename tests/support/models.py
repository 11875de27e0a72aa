"""Random models for tests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network
from vitedge.network.operators import Linear, Norm


def random_vit(
    seed: int = 0,
    *,
    image_size: tuple[int, int] = (32, 32),
    patch_size: tuple[int, int] = (8, 8),
    channels: int = 3,
    dim: int = 24,
    depth: int = 2,
    heads: int = 3,
    head_dim: int = 8,
    mlp_dim: int = 40,
    classes: int = 10,
    prefix_tokens: int = 1,
    pooling: Pooling = Pooling.CLASS,
    activation: Activation = Activation.GELU,
    norm_position: NormPosition = NormPosition.PRE,
    norm_kind: NormKind = NormKind.LAYER,
    qk_norm: bool = False,
    input_norm: bool = False,
    pooled_norm: bool = False,
    head_hidden: tuple[int, ...] = (),
    labels: bool = True,
) -> PlainViT:
    """A ViT with random weights of trained sizes: nothing is zero, nothing saturates."""
    rng = np.random.default_rng(seed)
    config = ViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        channels=channels,
        dim=dim,
        depth=depth,
        heads=heads,
        head_dim=head_dim,
        mlp_dim=mlp_dim,
        classes=classes,
        prefix_tokens=prefix_tokens,
        pooling=pooling,
        activation=activation,
        norm_position=norm_position,
        norm_kind=norm_kind,
        attention_scale=head_dim**-0.5,
    )

    def array(*shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale + shift).astype(np.float32)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(array(inputs, outputs, scale=inputs**-0.5), array(outputs, scale=0.1))

    def norm(width: int, present: bool = True) -> Norm | None:
        if not present:
            return None
        return Norm(array(width, scale=0.2, shift=1.0), array(width, scale=0.1), 1e-6)

    wide = config.attention_dim
    blocks = tuple(
        Block(
            norm1=norm(dim),
            q=linear(dim, wide),
            k=linear(dim, wide),
            v=linear(dim, wide),
            out=linear(wide, dim),
            norm2=norm(dim),
            fc1=linear(dim, mlp_dim),
            fc2=linear(mlp_dim, dim),
            q_norm=norm(head_dim, qk_norm),
            k_norm=norm(head_dim, qk_norm),
        )
        for _ in range(depth)
    )
    widths = [config.pooled_dim, *head_hidden]
    return PlainViT(
        config=config,
        patch=linear(patch_size[0] * patch_size[1] * channels, dim),
        prefix=array(prefix_tokens, dim),
        positions=array(config.patches, dim, scale=0.5),
        blocks=blocks,
        norm=norm(dim),
        head=linear(widths[-1], classes),
        preprocessing=Preprocessing(
            size=image_size,
            channels=channels,
            mean=(0.485, 0.456, 0.406)[:channels],
            std=(0.229, 0.224, 0.225)[:channels],
        ),
        labels=tuple(f"class {index}" for index in range(classes)) if labels else (),
        input_norm=norm(dim, input_norm),
        pooled_norm=norm(dim, pooled_norm),
        head_hidden=tuple(linear(inputs, outputs) for inputs, outputs in pairwise(widths)),
    )


def random_network(seed: int = 0, **options: Any) -> Network:
    """The network of ``random_vit`` with the same options."""
    return network_of(random_vit(seed, **options))


def random_images(network: Network, n: int = 2, seed: int = 0) -> np.ndarray:
    """uint8 pixels that fit a network."""
    shape = (n, *network.image_shape)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
