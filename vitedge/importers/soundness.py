"""What is visibly wrong with the weights of a model, whatever it was read from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitedge.errors import ModelError
from vitedge.vit import Block, ViT


def refuse_broken(path: Path, vit: ViT) -> None:
    """Refuses a model some of whose numbers are not finite.

    Importers refuse those of the file where they read them; these became so on the way, or lie in
    a model that was lifted.

    Raises:
        ModelError: An array holds NaN or infinity, or an epsilon or the attention's scale is none.
    """
    for name, array in vit.named_arrays():
        broken = array.size - int(np.isfinite(array).sum())
        if broken:
            raise ModelError(
                f"'{name}' of '{path}' holds NaN or infinity ({broken} of {array.size} values): "
                "the training that made it diverged, or the file is damaged"
            )
    numbers = {f"the epsilon of '{name}'": norm.eps for name, norm in vit.named_norms()}
    for what, number in (numbers | {"the attention's scale": vit.config.attention_scale}).items():
        if not np.isfinite(np.float32(number)) or number < 0:
            raise ModelError(f"{what} of '{path}' is {number}, which computes nothing")


def zero_parts(vit: ViT) -> tuple[str, ...]:
    """The head and the blocks whose linear layers hold nothing but zeros, in words.

    A checkpoint that was cut short, or a head that was never trained, is so; it can be converted,
    but answers the same for every image or skips the block.
    """
    zeros = [] if vit.head.weight.any() else ["the head"]
    for index, block in enumerate(vit.blocks):
        if not any(getattr(block, name).weight.any() for name in Block.LINEARS):
            zeros.append(f"block {index}")
    return tuple(zeros)
