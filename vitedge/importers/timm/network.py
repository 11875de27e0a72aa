"""A transformer over patches out of timm's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitedge.elements.attention import AttentionWeights, Pass
from vitedge.elements.attention_pooling import attention_pooling, pooling_head
from vitedge.elements.heads import classified
from vitedge.elements.kinds import Pooling
from vitedge.elements.pooling import normed, pooled
from vitedge.elements.rope import mixed_angles, rope
from vitedge.elements.trunk import Trunk, tokens_of
from vitedge.errors import ModelError, NotAViTError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.layers import (
    Head,
    averaged_heads,
    heads_of,
    rows,
    torch_head,
    torch_linear,
    torch_patch,
)
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.importers.timm.blocks import read_block, read_mlp, read_norm_if_present
from vitedge.importers.timm.facts import Facts, Rotary
from vitedge.importers.timm.published import pooling_of
from vitedge.importers.timm.tokens import PATCH, Tokens
from vitedge.importers.torch_blocks import axial_rope, halves, refuse_large_grid
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import Take
from vitedge.network.tasks import Task

_POOLS = {"token": Pooling.CLASS, "avg": Pooling.MEAN}


def read_network(
    tensors: Tensors,
    tokens: Tokens,
    facts: Facts,
    options: ImportOptions,
    published: Mapping[str, Any],
    preprocessing: Preprocessing,
) -> Network:
    """The network: pixels to ``logits``, or to an ``embedding`` where there is no classifier.

    Args:
        tensors: All weights.
        tokens: The parts of the model's tokens that were read already.
        facts: The facts that the weights do not tell.
        options: The user's options.
        published: The ``config.json`` beside the weights.
        preprocessing: The preprocessing at the size of the tokens' grid.
    """
    net = Builder()
    heads, width = _heads(tensors.below("blocks.0."), facts, options)
    trunk = _trunk(tensors, tokens, facts, heads, width // heads)
    x = tokens_of(net, trunk, preprocessing)
    head = _head(tensors, options)
    x = _pooled(net, x, tensors, len(tokens.prefix), facts, heads, published)
    norm = read_norm_if_present(tensors, "fc_norm", facts.eps)
    norm = head.norm if norm is None and head is not None else norm
    if norm is not None:
        x = normed(net, x, norm)
    if head is None:
        _refuse_unpooled(tensors, published)
        return net.network({"embedding": x}, preprocessing, task=Task.EMBEDDING)
    x = classified(net, x, head.last, head.hidden, head.activation)
    return net.network({"logits": x}, preprocessing)


def _refuse_unpooled(tensors: Tensors, published: Mapping[str, Any]) -> None:
    """Refuses a ``TimmWrapperModel`` that gives its tokens."""
    if published.get("do_pooling") is False:
        raise NotAViTError(
            f"'{tensors.source}' gives all its tokens (its 'do_pooling' is false), which vitedge "
            "does not read by name: set do_pooling to true, or export the model to .onnx"
        )


def _trunk(tensors: Tensors, tokens: Tokens, facts: Facts, heads: int, head_dim: int) -> Trunk:
    depth = count(tensors, "blocks.{}.norm1.weight")
    turns = _turns(tensors, tokens, facts.rope, head_dim, depth)
    blocks = tuple(
        read_block(
            tensors.below(f"blocks.{index}."),
            facts,
            heads=heads,
            grid=tokens.grid,
            class_token=len(tokens.prefix) > 0,
            turn=turns[index],
        )
        for index in range(depth)
    )
    return Trunk(
        patch=torch_patch(tensors, PATCH),
        patch_size=tokens.patch_size,
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        norm=read_norm_if_present(tensors, "norm", facts.eps),
        input_norm=read_norm_if_present(tensors, "norm_pre", facts.eps),
        patch_norm=read_norm_if_present(tensors, "patch_embed.norm", facts.eps),
    )


def _heads(block: Tensors, facts: Facts, options: ImportOptions) -> tuple[int, int]:
    """The number of heads, and their width together."""
    fused = "attn.qkv.weight" in block
    width = block.shape(f"attn.{'qkv' if fused else 'q_proj'}.weight")[0] // (3 if fused else 1)
    of_norm = block.shape("attn.q_norm.weight")[0] if "attn.q_norm.weight" in block else 0
    if of_norm and width and width % of_norm == 0:
        return width // of_norm, width
    if options.heads is None and facts.heads is not None and width % facts.heads == 0:
        return facts.heads, width
    if options.heads is None:
        raise ModelError(
            f"the weights of '{block.source}' do not tell the number of heads, and an attention "
            f"of width {width} has no usual one: give --heads"
        )
    return heads_of(width, options), width


def _turns(
    tensors: Tensors, tokens: Tokens, rotary: Rotary | None, width: int, depth: int
) -> list[Pass | None]:
    """The rotary positions of each block."""
    if rotary is None:
        return [None] * depth
    prefix = len(tokens.prefix)
    if not rotary.mixed:
        return [axial_rope(tokens.grid, width, rotary.positions, rotary.pairing, prefix)] * depth
    frequencies = tensors["rope.freqs"]
    if frequencies.ndim != 4 or len(frequencies) != 2 or frequencies.shape[1] != depth:
        raise ModelError(f"'rope.freqs' of '{tensors.source}' has shape {frequencies.shape}")
    refuse_large_grid(tokens.grid, frequencies.size)
    columns_first = rotary.positions.columns_first
    return [
        rope(
            mixed_angles(tokens.grid, frequencies[:, index], columns_first=columns_first),
            rotary.pairing,
            prefix_tokens=prefix,
        )
        for index in range(depth)
    ]


def _pooled(
    net: Builder,
    x: Value,
    tensors: Tensors,
    prefix_tokens: int,
    facts: Facts,
    heads: int,
    published: Mapping[str, Any],
) -> Value:
    """The vector that the head reads."""
    if "head_dist.weight" in tensors:
        return pooled(net, x, Pooling.DISTILLED, prefix_tokens)
    pool = pooling_of(published)
    pool = facts.pool if pool is None else pool
    if "attn_pool.latent" in tensors:
        pool = "map"
    elif pool is None or pool == "map":
        averaged = "fc_norm.weight" in tensors or "cls_token" not in tensors
        pool = "avg" if averaged else "token"
    if pool == "map":
        return _pooled_by_attention(net, x, tensors, prefix_tokens, facts, heads)
    if not pool:
        raise NotAViTError(
            f"'{tensors.source}' gives all its tokens (its 'global_pool' is empty), which vitedge "
            "does not read by name: export it to .onnx"
        )
    if pool not in _POOLS or (pool == "token" and "cls_token" not in tensors):
        raise NotAViTError(
            f"'{tensors.source}' pools its tokens by '{pool}', which vitedge does not read by "
            "name: export it to .onnx"
        )
    return pooled(net, x, _POOLS[pool], prefix_tokens)


def _pooled_by_attention(
    net: Builder,
    x: Value,
    tensors: Tensors,
    prefix_tokens: int,
    facts: Facts,
    heads: int,
) -> Value:
    """Timm's ``AttentionPoolLatent``."""
    inner = tensors.below("attn_pool.")
    if prefix_tokens and not facts.pool_reads_prefix:
        x = net("pooled/patches", Take(0, tuple(range(prefix_tokens, x.shape[0]))), x)
    q = torch_linear(inner, "q")
    weights = AttentionWeights(q, *halves(torch_linear(inner, "kv")), torch_linear(inner, "proj"))
    own = facts.pool_heads or heads
    probe, scale = rows(inner, "latent"), (q.weight.shape[1] // own) ** -0.5

    def pool(net: Builder, x: Value, name: str) -> Value:
        return attention_pooling(net, x, probe, weights, name, heads=own, scale=scale)

    norm = read_norm_if_present(inner, "norm", facts.eps)
    return pooling_head(net, x, pool, norm, read_mlp(inner.below("mlp."), facts), "pool")


def _head(tensors: Tensors, options: ImportOptions) -> Head | None:
    """The classifier; None where there is not one."""
    if not any(name.startswith("head.") for name in tensors.names):
        return None
    head = torch_head(tensors, "head", options)
    if "head_dist.weight" in tensors and not head.hidden and head.norm is None:
        return replace(head, last=averaged_heads(head.last, torch_linear(tensors, "head_dist")))
    if "fc_norm.weight" in tensors and head.norm is not None:
        raise NotAViTError(f"'{tensors.source}' has two norms after its pooling")
    name = "pre_logits.fc"
    if f"{name}.weight" in tensors and not head.hidden:
        # The hidden layer, with tanh, of heads trained on ImageNet-21k.
        hidden = (torch_linear(tensors, name),)
        return replace(head, hidden=hidden, activation=Activation.TANH)
    return head
