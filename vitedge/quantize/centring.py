"""Keys and values around zero, for nothing.

Softmax does not see a constant added to all keys (it shifts each row of scores), and shares sum to
one, so a constant added to all values is added to what they mix. So both may be moved to where
their mean is zero: their ranges and those of the scores become smallest, and shares that do not
quite sum to one after rounding do no harm. The rewrites ``drop-key-bias`` and ``fold-value-bias``
move the bias alone; this needs to know the mean input.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.quantize.input_statistics import Statistics
from vitedge.vit import Block, Linear, ViT


def centre_keys_and_values(vit: ViT, statistics: Statistics) -> tuple[ViT, Statistics]:
    """The ViT with keys and values of mean zero, and statistics of it."""
    inputs = dict(statistics.inputs)
    blocks = []
    for index, block in enumerate(vit.blocks):
        name = f"blocks.{index}"
        mean = inputs[f"{name}.k"].mean
        moved = (mean @ block.v.weight + block.v.bias).astype(np.float32)
        inputs[f"{name}.out"] = inputs[f"{name}.out"].shifted(-moved)
        changed: Block = replace(
            block,
            v=replace(block.v, bias=block.v.bias - moved),
            out=replace(block.out, bias=block.out.bias + moved @ block.out.weight),
        )
        if block.k_norm is None:
            centred = Linear(block.k.weight, (-(mean @ block.k.weight)).astype(np.float32))
            changed = replace(changed, k=centred)
        blocks.append(changed)
    return replace(vit, blocks=tuple(blocks)), replace(statistics, inputs=inputs)
