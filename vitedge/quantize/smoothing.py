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
    blocks = []
    for index, block in enumerate(vit.blocks):
        name = f"blocks.{index}.out"
        changed, inputs[name] = _balanced(block, inputs[name], vit.config.heads)
        blocks.append(changed)
    return replace(vit, blocks=tuple(blocks)), replace(statistics, inputs=inputs)


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
            scaled = _scale_norm1(block, factors)
            _scale_shared(inputs, name, factors)
            factors, chosen[f"{name}.fc1"] = _factors(inputs[f"{name}.fc1"], activations)
            scaled = replace(
                scaled, norm2=_scaled_norm(block.norm2, factors), fc1=_undo(block.fc1, factors)
            )
            inputs[f"{name}.fc1"] = inputs[f"{name}.fc1"].scaled(factors)
        factors, chosen[f"{name}.out"] = _factors(inputs[f"{name}.out"], activations)
        value = Linear(scaled.v.weight * factors, scaled.v.bias * factors)
        scaled = replace(scaled, v=value, out=_undo(block.out, factors))
        inputs[f"{name}.out"] = inputs[f"{name}.out"].scaled(factors)
        blocks.append(scaled)
    return replace(vit, blocks=tuple(blocks)), replace(statistics, inputs=inputs), chosen


def _factors(watched: InputStatistics, activations: Activations) -> tuple[Array, float]:
    """What to multiply each channel with, and the exponent that gives it."""
    largest = np.maximum(watched.high, -watched.low)
    largest = np.maximum(largest, largest.max() * np.float32(_FLOOR))
    if not len(watched.rows) or not largest.all():
        return np.ones_like(largest), 0.0
    # Relative to the geometric mean, so that the weight does not grow or shrink as a whole.
    relative = np.log(largest) - np.log(largest).mean()
    best, best_exponent, least = np.ones_like(largest), 0.0, np.inf
    for exponent in _EXPONENTS:
        factors: Array = np.exp(-exponent * relative).astype(np.float32)
        cost = input_error(watched.scaled(factors), activations)
        if cost < least * _WORTHWHILE:
            best, best_exponent, least = factors, exponent, cost
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


def _scaled_norm(norm: Norm, factors: Array) -> Norm:
    return replace(norm, gamma=norm.gamma * factors, beta=norm.beta * factors)


def _undo(layer: Linear, factors: Array) -> Linear:
    return replace(layer, weight=layer.weight / factors[:, None])
