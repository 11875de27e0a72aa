"""The blocks of timm's transformers over patches, by the names of their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.elements.attention import AttentionWeights, Pass, attention
from vitedge.elements.block import BlockParts
from vitedge.errors import NotAViTError
from vitedge.importers.layers import scaled_outputs, torch_fused_qkv, torch_linear
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.timm.facts import Facts
from vitedge.importers.torch_blocks import gated_mlp, halves, learned_bias, plain_mlp
from vitedge.network.kinds import NormKind
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array, Linear, Norm

BIAS_TABLE = "attn.relative_position_bias_table"


def read_norm(tensors: Tensors, name: str, eps: float) -> Norm:
    """LayerNorm, or RMSNorm where it has no bias."""
    gamma = tensors[f"{name}.weight"]
    beta = tensors.get(f"{name}.bias")
    if beta is None:
        return Norm(gamma, np.zeros_like(gamma), eps, NormKind.RMS)
    return Norm(gamma, beta, eps)


def read_norm_if_present(tensors: Tensors, name: str, eps: float) -> Norm | None:
    """Reads a norm, or gives None if the model has an identity there."""
    return read_norm(tensors, name, eps) if f"{name}.weight" in tensors else None


def read_block(
    tensors: Tensors,
    facts: Facts,
    *,
    heads: int,
    grid: tuple[int, int],
    class_token: bool,
    turn: Pass | None,
) -> BlockParts:
    """One block.

    Args:
        tensors: Below its name.
        facts: The facts of the model.
        heads: The number of heads of its attention.
        grid: Rows and columns of patches.
        class_token: Whether one stands before them.
        turn: Rotary positions of this block, or None.
    """
    weights = _attention(tensors, facts.eps)
    scale = (weights.q.weight.shape[1] // heads) ** -0.5
    bias = None
    if BIAS_TABLE in tensors:
        bias = learned_bias(tensors, BIAS_TABLE, grid, class_token=class_token)

    def attend(net: Builder, x: Value, name: str) -> Value:
        return attention(
            net, x, weights, name, heads=heads, scale=scale, turn=turn, add_to_scores=bias
        )

    return BlockParts(
        norm1=read_norm(tensors, "norm1", facts.eps),
        attention=attend,
        norm2=read_norm(tensors, "norm2", facts.eps),
        mlp=read_mlp(tensors.below("mlp."), facts, _layer_scale(tensors, 2)),
        norms=facts.norms,
    )


def read_mlp(tensors: Tensors, facts: Facts, scale: Array | None = None) -> Pass:
    """An MLP, gated (by one layer or by two) or not; ``scale`` is its LayerScale."""
    fc2, norm = _scaled(torch_linear(tensors, "fc2"), scale), None
    if "norm.weight" in tensors:
        norm = read_norm(tensors, "norm", facts.eps)
    if "fc1_g.weight" in tensors:
        gate, up = torch_linear(tensors, "fc1_g"), torch_linear(tensors, "fc1_x")
        return gated_mlp(gate, up, fc2, norm=norm)
    fc1 = torch_linear(tensors, "fc1")
    if fc1.weight.shape[1] == 2 * fc2.weight.shape[0]:
        return gated_mlp(*halves(fc1), fc2, norm=norm)
    return plain_mlp(fc1, fc2, facts.activation, norm)


def _attention(tensors: Tensors, eps: float) -> AttentionWeights:
    q, k, v = _queries_keys_values(tensors)
    return AttentionWeights(
        q,
        k,
        v,
        _scaled(torch_linear(tensors, "attn.proj"), _layer_scale(tensors, 1)),
        q_norm=read_norm_if_present(tensors, "attn.q_norm", eps),
        k_norm=read_norm_if_present(tensors, "attn.k_norm", eps),
        inner_norm=read_norm_if_present(tensors, "attn.norm", eps),
    )


def _queries_keys_values(tensors: Tensors) -> tuple[Linear, Linear, Linear]:
    if "attn.qkv.weight" not in tensors:
        q, k, v = (torch_linear(tensors, f"attn.{part}_proj") for part in "qkv")
        if k.weight.shape[1] < q.weight.shape[1]:
            raise NotAViTError(
                f"'{tensors.source}' has keys of groups of heads ('attn.k_proj.weight'), which "
                "vitedge does not read by name: export the model to .onnx"
            )
        return q, k, v
    q, k, v = torch_fused_qkv(tensors, "attn.qkv.weight", "attn.qkv.bias")
    if "attn.q_bias" in tensors:  # keys have none (BEiT, EVA)
        q = replace(q, bias=q.bias + tensors["attn.q_bias"])
        v = replace(v, bias=v.bias + tensors["attn.v_bias"])
    return q, k, v


def _layer_scale(tensors: Tensors, sublayer: int) -> Array | None:
    """The LayerScale of the attention (1) or of the MLP (2), or None."""
    names = (f"ls{sublayer}.gamma", f"gamma_{sublayer}")
    return next((tensors[name] for name in names if name in tensors), None)


def _scaled(layer: Linear, factors: Array | None) -> Linear:
    return layer if factors is None else scaled_outputs(layer, factors)
