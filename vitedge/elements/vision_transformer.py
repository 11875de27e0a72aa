"""A whole plain Vision Transformer out of the other elements (arXiv:2010.11929 and descendants)."""

from __future__ import annotations

from dataclasses import replace

from vitedge.elements.attention import AttentionWeights, attention
from vitedge.elements.kinds import NormPosition
from vitedge.elements.mlp import mlp
from vitedge.elements.patches import patches
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.pooling import pooled
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Norm,
    Pixels,
    Reshape,
    Standardize,
)


def network_of(vit: PlainViT) -> Network:
    """The network of a plain ViT: pixels to ``logits``."""
    config, net = vit.config, Builder()
    x = net("pixels", Pixels(*config.image_size, config.channels))
    if not config.raw_pixels:
        mean, std = vit.preprocessing.mean, vit.preprocessing.std
        x = net("pixels/shifted", Standardize(tuple(mean), tuple(std)), x)
    x = net("patch", vit.patch, patches(net, x, config.patch_size, "patches"))
    x = net("embedded", Add(), x, net("positions", Constant(vit.positions)))
    if config.prefix_tokens:
        x = net("tokens", Concatenate(0), net("prefix", Constant(vit.prefix)), x)
    if vit.input_norm is not None:
        x = net("input_norm", _norm(config, vit.input_norm), x)
    for index, block in enumerate(vit.blocks):
        x = _block(net, x, config, block, f"blocks.{index}")
    if vit.norm is not None:
        x = net("norm", _norm(config, vit.norm), x)
    x = pooled(net, x, config.pooling, config.prefix_tokens)
    if vit.pooled_norm is not None:
        x = _pooled_norm(net, x, config, vit.pooled_norm)
    for index, layer in enumerate(vit.head_hidden):
        name, activation = f"head_hidden.{index}", config.head_activation
        x = net(f"{name}/{activation}", Activate(activation), net(name, layer, x))
    logits = net("head", vit.head, x)
    return net.network({"logits": logits}, vit.preprocessing, vit.labels)


def _block(net: Builder, x: Value, config: ViTConfig, block: Block, name: str) -> Value:
    norm1, norm2 = (_norm(config, each) for each in (block.norm1, block.norm2))
    weights = AttentionWeights(block.q, block.k, block.v, block.out, block.q_norm, block.k_norm)
    pre = config.norm_position is NormPosition.PRE
    read = net(f"{name}.norm1", norm1, x) if pre else x
    heads, scale = config.heads, config.attention_scale
    mixed = attention(net, read, weights, name, heads=heads, scale=scale)
    x = net(f"{name}/attended", Add(), x, mixed)
    if not pre:
        x = net(f"{name}.norm1", norm1, x)
    read = net(f"{name}.norm2", norm2, x) if pre else x
    grown = mlp(net, read, block.fc1, block.fc2, name, activation=config.activation)
    x = net(f"{name}/out", Add(), x, grown)
    return x if pre else net(f"{name}.norm2", norm2, x)


def _pooled_norm(net: Builder, x: Value, config: ViTConfig, norm: Norm) -> Value:
    """The norm of each pooled vector; where there are several, they stand behind one another."""
    norm = _norm(config, norm)
    if x.shape == norm.gamma.shape:
        return net("pooled_norm", norm, x)
    parts = net("pooled/parts", Reshape((x.shape[0] // config.dim, config.dim)), x)
    normed = net("pooled_norm", norm, parts)
    return net("pooled/normed", Reshape(x.shape), normed)


def _norm(config: ViTConfig, norm: Norm) -> Norm:
    return replace(norm, kind=config.norm_kind)
