"""Walking over the linear layers of a ViT by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vitedge.vit import Block, Linear, ViT


def map_linears(vit: ViT, change: Callable[[str, Linear], Linear]) -> ViT:
    """The ViT whose linear layers are each replaced by ``change(name, layer)``.

    They are visited in the order of computation, under the names of ``ViT.named_linears``.
    """

    def changed_block(index: int, block: Block) -> Block:
        name = f"blocks.{index}"
        return replace(
            block,
            q=change(f"{name}.q", block.q),
            k=change(f"{name}.k", block.k),
            v=change(f"{name}.v", block.v),
            out=change(f"{name}.out", block.out),
            fc1=change(f"{name}.fc1", block.fc1),
            fc2=change(f"{name}.fc2", block.fc2),
        )

    return replace(
        vit,
        patch=change("patch", vit.patch),
        blocks=tuple(changed_block(index, block) for index, block in enumerate(vit.blocks)),
        head_hidden=tuple(
            change(f"head_hidden.{index}", layer) for index, layer in enumerate(vit.head_hidden)
        ),
        head=change("head", vit.head),
    )
