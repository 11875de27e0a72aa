"""A plain ViT with registers whose activations are massive, as published for DINOv2 and CLIP.

In such models a few tokens without content (class token, registers, or patches that serve as such)
hold hundreds in one or two channels of the residual stream. Units of the MLPs write them there,
which fire for these tokens alone (arXiv:2402.17762, 2309.16588). An 8-bit scale for the whole
tensor then leaves a few steps for all other tokens.

The tokens are made, not trained. Registers are marked in a channel that the model hardly reads; in
each block one unit of the MLP that matters least is given to the mark. So the model computes nearly
what it did, and what a quantizer loses is measured against the made model itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from plain_parameters import parameters_of

from vitedge.elements.plain_vit import Block
from vitedge.elements.vision_transformer import network_of
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Array, Linear, Norm

# The mark outshines all other channels of a register, so a norm makes the root of the width of it.
_MARK = 20.0

# Normalized numbers below are not the mark's; those of a patch seldom reach 5.
_THRESHOLD = 6.0


def with_massive_registers(
    network: Network,
    images: npt.NDArray[np.uint8],
    *,
    registers: int = 4,
    fired: float = 60.0,
    massive: float = 400.0,
) -> Network:
    """A pre-norm ViT with a class token, and registers beside it that hold massive numbers.

    Args:
        network: The model.
        images: Pixels ``(N, H, W, C)``, in which no patch may look like a register.
        registers: Count of registers.
        fired: What the given units make of a register, where other units make a few.
        massive: What the marked channel of a register holds in the end.
    """
    vit = parameters_of(network)
    channel = _least_read(vit.blocks, _largest(network, vit.blocks, images))
    rng = np.random.default_rng(0)
    tokens = 0.02 * rng.standard_normal((registers, vit.config.dim)).astype(np.float32)
    tokens[:, channel] = _MARK
    written = massive / len(vit.blocks)
    blocks = tuple(_with_unit(block, channel, fired, written) for block in vit.blocks)
    config = replace(vit.config, prefix_tokens=1 + registers)
    prefix = np.concatenate([vit.prefix, tokens])
    return network_of(replace(vit, config=config, prefix=prefix, blocks=blocks))


def _largest(network: Network, blocks: tuple[Block, ...], images: npt.NDArray[np.uint8]) -> Array:
    """The largest normalized number of each channel of the stream, in any block."""
    found = np.zeros(len(blocks[0].norm1.gamma), np.float32)
    norms = {f"blocks.{at}.q": each.norm1 for at, each in enumerate(blocks)}
    norms |= {f"blocks.{at}.fc1": each.norm2 for at, each in enumerate(blocks)}

    def watch(name: str, x: Array) -> None:
        if name in norms:
            gamma = np.where(norms[name].gamma == 0, np.inf, norms[name].gamma)
            normalized = np.abs((x - norms[name].beta) / gamma)
            np.maximum(found, normalized.reshape(-1, len(found)).max(axis=0), out=found)

    evaluate(network, images, watch)
    return found


def _least_read(blocks: tuple[Block, ...], largest: Array) -> int:
    """The channel that matters least to what reads it, of those that are never large."""

    def read(norm: Norm, *layers: Linear) -> Array:
        rows = sum(np.square(layer.weight).sum(axis=1) for layer in layers)
        found: Array = np.square(norm.gamma) * rows
        return found

    total = sum(
        read(each.norm1, each.q, each.k, each.v) + read(each.norm2, each.fc1) for each in blocks
    )
    small = largest <= max(_THRESHOLD - 2, float(np.partition(largest, 8)[8]))
    return int(np.argmin(np.where(small, total, np.inf)))


def _with_unit(block: Block, channel: int, fired: float, written: float) -> Block:
    """A block whose least important unit fires for marked tokens and writes into the channel."""
    first, second, norm = block.fc1, block.fc2, block.norm2
    weights = np.linalg.norm(first.weight, axis=0) * np.linalg.norm(second.weight, axis=1)
    unit = int(np.argmin(weights))
    gamma = float(norm.gamma[channel]) or 1.0
    slope = fired / (len(norm.gamma) ** 0.5 - _THRESHOLD)
    weight, bias = first.weight.copy(), first.bias.copy()
    weight[:, unit] = 0
    weight[channel, unit] = slope / gamma
    bias[unit] = -slope * _THRESHOLD - slope / gamma * float(norm.beta[channel])
    back = second.weight.copy()
    back[unit] = 0
    back[unit, channel] = written / fired
    return replace(block, fc1=Linear(weight, bias), fc2=Linear(back, second.bias))
