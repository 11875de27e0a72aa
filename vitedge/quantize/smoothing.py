"""Moving difficulty between activations and weights, where it costs no operator.

A channel that is large at the input of a linear layer makes the step coarse for all others. Its
factor can move: out of the norm before (gamma) or the layer before (v), into the weight after.
How far is searched per layer, including not at all, by the predicted error of the logits
(SmoothQuant, arXiv:2211.10438, has one exponent for all layers).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.quantize import Activations
from vitedge.quantize.cores import all_cores
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.quantize.ranges import input_error
from vitedge.rewrite.balanced_pairs import balancing
from vitedge.spec import NormPosition
from vitedge.vit import Array, Block, Linear, Norm, ViT

# How much of the differences between channels is taken out.
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)

# An exponent must halve the error: on DeiT-tiny smaller gains at the input were lost again in the
# weights, which it makes harder to round.
_WORTHWHILE = 0.5

# Channels below this share of the largest are not scaled up further.
_FLOOR = 1e-3


def balance_values(vit: ViT, statistics: Statistics) -> tuple[ViT, Statistics]:
    """Changes the basis between v and the output projection of each head.

    As the rewrite ``balance-values``, but with the measured moments and the measured cost of
    errors in place of what the weights suggest.
    """
    inputs = dict(statistics.inputs)
    names = [f"blocks.{index}.out" for index in range(len(vit.blocks))]

    def balanced(index: int) -> tuple[Block, InputStatistics]:
        return _balanced(vit.blocks[index], inputs[names[index]], vit.config.heads)

    with all_cores() as cores:
        blocks, watched = zip(*cores.map(balanced, range(len(names))), strict=True)
    inputs |= dict(zip(names, watched, strict=True))
    return replace(vit, blocks=blocks), replace(statistics, inputs=inputs)


def _balanced(block: Block, watched: InputStatistics, heads: int) -> tuple[Block, InputStatistics]:
    wide = block.out.weight.shape[0]
    width = wide // heads
    change, inverse = np.zeros((wide, wide)), np.zeros((wide, wide))
    out = block.out.weight.astype(np.float64)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        moments = watched.moments[part, part].astype(np.float64)
        reading = out[part] @ out[part].T
        change[part, part], inverse[part, part] = balancing(moments, reading, seed=head)
    value = Linear(
        (block.v.weight @ change).astype(np.float32), (block.v.bias @ change).astype(np.float32)
    )
    output = replace(block.out, weight=(inverse @ out).astype(np.float32))
    return replace(block, v=value, out=output), watched.mapped(change, inverse)


def smooth(
    vit: ViT, statistics: Statistics, activations: Activations
) -> tuple[ViT, Statistics, dict[str, float]]:
    """Scales the channels between norms and linear layers, and between v and the output.

    Returns:
        The ViT, which computes the same; statistics of it; the exponent chosen for each input.
    """
    norms = vit.config.norm_position is NormPosition.PRE and (
        # LiteRT has no norm operator: there gamma is a multiplication of its own, and a scale per
        # token leaves little to gain.
        activations is not Activations.PER_TOKEN
    )
    inputs = dict(statistics.inputs)
    chosen: dict[str, float] = {}
    blocks = []
    for index, block in enumerate(vit.blocks):
        name = f"blocks.{index}"
        scaled = block
        if norms:
            factors, chosen[f"{name}.k"] = _factors(inputs[f"{name}.k"], activations)
            if factors is not None:
                scaled = _scale_norm1(scaled, factors)
                _scale_shared(inputs, name, factors)
            factors, chosen[f"{name}.fc1"] = _factors(inputs[f"{name}.fc1"], activations)
            if factors is not None:
                scaled = _scale_norm2(scaled, factors)
                inputs[f"{name}.fc1"] = inputs[f"{name}.fc1"].scaled(factors)
        factors, chosen[f"{name}.out"] = _factors(inputs[f"{name}.out"], activations)
        if factors is not None:
            scaled = _scale_values(scaled, factors)
            inputs[f"{name}.out"] = inputs[f"{name}.out"].scaled(factors)
        blocks.append(scaled)
    return replace(vit, blocks=tuple(blocks)), replace(statistics, inputs=inputs), chosen


def _factors(watched: InputStatistics, activations: Activations) -> tuple[Array | None, float]:
    """What to multiply each channel with, or None for nothing, and the exponent that gives it.

    What is not scaled stays the very same array: a large model's weights and moments are
    gigabytes, and other recipes share them.
    """
    largest = np.maximum(watched.high, -watched.low)
    largest = np.maximum(largest, largest.max() * np.float32(_FLOOR))
    if not len(watched.rows) or not largest.all():
        return None, 0.0
    # Relative to the geometric mean, so that the weight does not grow or shrink as a whole.
    relative = np.log(largest) - np.log(largest).mean()
    best: Array | None = None
    best_exponent, least = 0.0, np.inf
    for exponent in _EXPONENTS:
        factors: Array = np.exp(-exponent * relative).astype(np.float32)
        cost = input_error(watched.scaled(factors), activations)
        if cost < least * _WORTHWHILE:
            best, best_exponent, least = factors if exponent else None, exponent, cost
    return best, best_exponent


def _scale_shared(inputs: dict[str, InputStatistics], name: str, factors: Array) -> None:
    """Scales what q, k and v read, once where it is one input."""
    queries, keys = inputs[f"{name}.q"], inputs[f"{name}.k"]
    shared = keys.scaled(factors)
    inputs[f"{name}.q"] = shared if queries is keys else queries.scaled(factors)
    inputs[f"{name}.k"] = inputs[f"{name}.v"] = shared


def _scale_norm1(block: Block, factors: Array) -> Block:
    return replace(
        block,
        norm1=_scaled_norm(block.norm1, factors),
        q=_undo(block.q, factors),
        k=_undo(block.k, factors),
        v=_undo(block.v, factors),
    )


def _scale_norm2(block: Block, factors: Array) -> Block:
    return replace(block, norm2=_scaled_norm(block.norm2, factors), fc1=_undo(block.fc1, factors))


def _scale_values(block: Block, factors: Array) -> Block:
    value = Linear(block.v.weight * factors, block.v.bias * factors)
    return replace(block, v=value, out=_undo(block.out, factors))


def _scaled_norm(norm: Norm, factors: Array) -> Norm:
    return replace(norm, gamma=norm.gamma * factors, beta=norm.beta * factors)


def _undo(layer: Linear, factors: Array) -> Linear:
    return replace(layer, weight=layer.weight / factors[:, None])
