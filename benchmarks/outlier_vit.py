"""The same ViT with massive outliers, as large pretrained ones have them.

Nothing is trained and no logit changes; only the numbers in between do:

* Offsets: a constant added to all channels of a token is not seen by a LayerNorm, which takes the
  mean out. A few positions get hundreds (massive tokens, arXiv:2402.17762).
* The stream's strongest directions are turned into single channels. LayerNorm without gamma and
  beta commutes with a rotation that keeps the ones vector (massive channels).
* A few channels of each norm's gamma, and of values, are large, and the weights behind them small
  (the outliers of arXiv:2211.10438). So are a few of queries, and the same of keys small, which
  leaves every score (those of arXiv:2402.02750).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from plain_parameters import parameters_of

from vitedge.elements.plain_vit import Block, PlainViT
from vitedge.elements.vision_transformer import network_of
from vitedge.network.network import Network
from vitedge.network.operators import Array, Linear, Norm
from vitedge.rewrite import apply_rewrites, rewrites

_FOLDED = ("fold-norm-affine",)


def with_outliers(
    network: Network,
    *,
    offset: float = 300.0,
    tokens: int = 3,
    channels: int = 4,
    factor: float = 60.0,
    seed: int = 0,
) -> Network:
    """A pre-norm ViT with LayerNorm that computes the same logits by outrageous numbers.

    Args:
        network: The model.
        offset: What is added to all channels of some tokens, times a number around one.
        tokens: How many positions get it.
        channels: How many channels of each norm, of values and of queries are large.
        factor: How large.
        seed: Chooses which.
    """
    rng = np.random.default_rng(seed)
    others = [each.name for each in rewrites() if each.name not in _FOLDED]
    folded, _ = apply_rewrites(network, without=others)
    turned = _with_massive_channels(parameters_of(folded))
    positions = turned.positions.copy()
    chosen = rng.choice(len(positions), tokens, replace=False)
    positions[chosen] += np.float32(offset) * rng.uniform(0.7, 1.3, (tokens, 1)).astype(np.float32)
    blocks = tuple(_with_large_channels(block, channels, factor, rng) for block in turned.blocks)
    return network_of(replace(turned, positions=positions, blocks=blocks))


def _with_massive_channels(vit: PlainViT) -> PlainViT:
    """Turns the stream so that what is written most into lies along single channels."""
    written = [vit.positions, vit.prefix]
    for block in vit.blocks:
        written += [block.out.weight, block.fc2.weight, block.fc2.bias[None]]
    stream = np.concatenate([np.asarray(each, np.float64) for each in written])
    width = vit.config.dim
    # Within what is orthogonal to the ones vector: there a LayerNorm looks.
    stream = stream - stream.mean(axis=1, keepdims=True)
    strongest = np.linalg.eigh(stream.T @ stream)[1][:, ::-1][:, : width - 1]
    directions = np.column_stack([np.ones(width), strongest])
    wanted = np.column_stack([np.ones(width), np.eye(width)[:, : width - 1]])
    turn: npt.NDArray[np.float64] = _orthonormal(directions) @ _orthonormal(wanted).T
    reading, writing = turn.T, turn

    def written_by(layer: Linear) -> Linear:
        return Linear(_float32(layer.weight @ writing), _float32(layer.bias @ writing))

    def read_by(layer: Linear) -> Linear:
        return replace(layer, weight=_float32(reading @ layer.weight))

    blocks = tuple(
        replace(
            block,
            q=read_by(block.q),
            k=read_by(block.k),
            v=read_by(block.v),
            out=written_by(block.out),
            fc1=read_by(block.fc1),
            fc2=written_by(block.fc2),
        )
        for block in vit.blocks
    )
    return replace(
        vit,
        patch=written_by(vit.patch),
        prefix=_float32(vit.prefix @ writing),
        positions=_float32(vit.positions @ writing),
        blocks=blocks,
        head=read_by(vit.head),
    )


def _orthonormal(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    basis, upper = np.linalg.qr(columns)
    signed: npt.NDArray[np.float64] = basis * np.sign(np.diag(upper))
    return signed


def _with_large_channels(
    block: Block, channels: int, factor: float, rng: np.random.Generator
) -> Block:
    def factors(width: int) -> Array:
        chosen = np.ones(width, np.float32)
        chosen[rng.choice(width, channels, replace=False)] = factor
        return chosen

    first, second = factors(len(block.norm1.gamma)), factors(len(block.norm2.gamma))
    mixed, met = factors(len(block.out.weight)), factors(len(block.out.weight))
    q, k, v = (_divided(layer, first) for layer in (block.q, block.k, block.v))
    return replace(
        block,
        norm1=_large(block.norm1, first),
        q=Linear(q.weight * met, q.bias * met),
        k=Linear(k.weight / met, k.bias / met),
        v=Linear(v.weight * mixed, v.bias * mixed),
        out=_divided(block.out, mixed),
        norm2=_large(block.norm2, second),
        fc1=_divided(block.fc1, second),
    )


def _large(norm: Norm, factors: Array) -> Norm:
    return replace(norm, gamma=norm.gamma * factors, beta=norm.beta * factors)


def _divided(layer: Linear, factors: Array) -> Linear:
    return replace(layer, weight=layer.weight / factors[:, None])


def _float32(values: npt.NDArray[np.floating]) -> Array:
    return values.astype(np.float32)
