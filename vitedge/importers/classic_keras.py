"""ViTs written in Keras before it had one of its own: one assembly for several tables of names.

An importer says where each part lies in its file; the parts are called as follows, for block 0,
``weight`` being a Keras kernel ``(inputs, outputs)``::

    patch.weight  patch.bias  class_token  positions
    blocks.0.norm1.gamma  blocks.0.norm1.beta  blocks.0.norm2.gamma  blocks.0.norm2.beta
    blocks.0.q.weight ...  blocks.0.k.weight ...  blocks.0.v.weight ...
    blocks.0.qkv.weight ...  (instead of the three)
    blocks.0.out.weight ...  blocks.0.fc1.weight ...  blocks.0.fc2.weight ...
    norm.gamma  norm.beta  pre_logits.weight  pre_logits.bias  head.weight  head.bias
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.layers import (
    class_token_and_patches,
    folded_linear,
    heads_of,
    matrix,
    rows,
    width_of_heads,
)
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.kinds import Activation
from vitedge.network.operators import Linear, Norm

_EPS = 1e-6


@dataclass(frozen=True)
class Published:
    """The facts that the weights do not tell.

    Attributes:
        activation: Non-linearity of the MLPs.
        mean: The mean of pixels scaled to 0..1, the same for every channel.
        std: The standard deviation of those pixels, the same for every channel.
        heads: Number of heads, where the file has a config that says so.
    """

    activation: Activation
    mean: float
    std: float
    heads: int | None = None


def classic_vit(parts: Tensors, published: Published, options: ImportOptions) -> PlainViT:
    """Assembles a ViT from its parts, all of which must find their place.

    Raises:
        ModelError: A part is missing, or the shapes contradict each other.
    """
    try:
        vit = _vit(parts, published, options)
    except (ValueError, IndexError) as error:
        raise ModelError(f"the weights of '{parts.source}' do not fit: {error}") from error
    parts.refuse_leftovers()
    return vit


def _vit(parts: Tensors, published: Published, options: ImportOptions) -> PlainViT:
    depth = count(parts, "blocks.{}.norm1.gamma")
    blocks = tuple(_block(parts.below(f"blocks.{index}.")) for index in range(depth))
    shape = parts.shape("patch.weight")
    if not blocks or len(shape) != 4:
        raise ModelError(f"'{parts.source}' has no whole block, or no patch convolution")
    patch_size, channels = (shape[0], shape[1]), shape[2]
    class_token, positions = rows(parts, "class_token"), rows(parts, "positions")
    tokens = class_token_and_patches(class_token, positions, patch_size, options)
    dim, width = blocks[0].q.weight.shape
    heads = published.heads or heads_of(width, options)
    hidden = (_dense(parts, "pre_logits"),) if "pre_logits.weight" in parts else ()
    head = _dense(parts, "head")
    return PlainViT(
        config=ViTConfig(
            image_size=tokens.image_size,
            patch_size=patch_size,
            channels=channels,
            dim=dim,
            depth=depth,
            heads=heads,
            head_dim=width_of_heads(width, heads),
            mlp_dim=blocks[0].fc1.weight.shape[1],
            classes=head.weight.shape[1],
            pooling=Pooling.CLASS,
            activation=published.activation,
            attention_scale=width_of_heads(width, heads) ** -0.5,
        ),
        patch=folded_linear(parts["patch.weight"], parts["patch.bias"], 3),
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        norm=_norm(parts, "norm"),
        head_hidden=hidden,
        head=head,
        preprocessing=Preprocessing(
            size=tokens.image_size,
            channels=channels,
            interpolation=Interpolation.BILINEAR,
            mean=(published.mean,) * channels,
            std=(published.std,) * channels,
        ),
    )


def _block(parts: Tensors) -> Block:
    q, k, v = _fused(parts) if "qkv.weight" in parts else (_dense(parts, name) for name in "qkv")
    return Block(
        norm1=_norm(parts, "norm1"),
        q=q,
        k=k,
        v=v,
        out=_dense(parts, "out"),
        norm2=_norm(parts, "norm2"),
        fc1=_dense(parts, "fc1"),
        fc2=_dense(parts, "fc2"),
    )


def _fused(parts: Tensors) -> tuple[Linear, Linear, Linear]:
    """Query, key and value side by side in the outputs of one layer."""
    weights = np.split(matrix(parts, "qkv.weight"), 3, axis=1)
    biases = np.split(parts["qkv.bias"], 3)
    q, k, v = (
        Linear(np.ascontiguousarray(weight), np.ascontiguousarray(bias))
        for weight, bias in zip(weights, biases, strict=True)
    )
    return q, k, v


def _dense(parts: Tensors, name: str) -> Linear:
    return Linear(matrix(parts, f"{name}.weight"), parts[f"{name}.bias"])


def _norm(parts: Tensors, name: str) -> Norm:
    return Norm(parts[f"{name}.gamma"], parts[f"{name}.beta"], _EPS)
