"""A whole plain vision transformer out of the other elements (arXiv:2010.11929 and descendants)."""

from __future__ import annotations

from dataclasses import replace

from vitedge.elements.attention import AttentionWeights, attention
from vitedge.elements.block import BlockParts
from vitedge.elements.heads import classified
from vitedge.elements.mlp import mlp
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.pooling import normed, pooled
from vitedge.elements.trunk import Trunk, tokens_of
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import Norm


def network_of(vit: PlainViT) -> Network:
    """The network of a plain ViT: pixels to ``logits``."""
    config, net = vit.config, Builder()
    trunk = Trunk(
        patch=vit.patch,
        patch_size=config.patch_size,
        prefix=vit.prefix,
        positions=vit.positions,
        blocks=tuple(_parts(config, block) for block in vit.blocks),
        norm=None if vit.norm is None else _norm(config, vit.norm),
        input_norm=None if vit.input_norm is None else _norm(config, vit.input_norm),
    )
    x = tokens_of(net, trunk, vit.preprocessing, raw_pixels=config.raw_pixels)
    x = pooled(net, x, config.pooling, config.prefix_tokens)
    if vit.pooled_norm is not None:
        x = normed(net, x, _norm(config, vit.pooled_norm))
    logits = classified(net, x, vit.head, vit.head_hidden, config.head_activation)
    return net.network({"logits": logits}, vit.preprocessing, vit.labels)


def _parts(config: ViTConfig, block: Block) -> BlockParts:
    weights = AttentionWeights(block.q, block.k, block.v, block.out, block.q_norm, block.k_norm)
    heads, scale = config.heads, config.attention_scale

    def attend(net: Builder, x: Value, name: str) -> Value:
        return attention(net, x, weights, name, heads=heads, scale=scale)

    def grow(net: Builder, x: Value, name: str) -> Value:
        return mlp(net, x, block.fc1, block.fc2, name, activation=config.activation)

    norm1, norm2 = (_norm(config, each) for each in (block.norm1, block.norm2))
    return BlockParts(norm1, attend, norm2, grow, config.norm_position)


def _norm(config: ViTConfig, norm: Norm) -> Norm:
    return replace(norm, kind=config.norm_kind)
