"""What a recipe does to the logits, computed in NumPy before there is an artefact.

Integers times integers are exact in every runtime, so a float product of fake-quantized numbers
is what the artefact computes, to float32 rounding; all other operators stay in float.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.quantize import Activations, Recipe
from vitedge.quantize.ranges import LEVELS, fake_quantized
from vitedge.vit import Array, Block, Linear, ViT, forward


def simulate(
    vit: ViT, recipe: Recipe, images: npt.NDArray[Any], *, activations: Activations
) -> Array:
    """The logits ``(N, classes)`` of an artefact that follows a recipe.

    Args:
        vit: The model that the recipe was made for.
        recipe: Integer weights and static ranges.
        images: Pixels ``(N, H, W, C)``.
        activations: How inputs without a static range are quantized; for ``STATIC`` they stay
            float.
    """

    def quantize_input(name: str, x: Array) -> Array | None:
        if name not in recipe.weights:
            return None
        if name in recipe.inputs:
            return fake_quantized(x, recipe.inputs[name])
        if activations is Activations.STATIC:
            return None
        axes = (-1,) if activations is Activations.PER_TOKEN else tuple(range(1, x.ndim))
        return dynamically_quantized(x, axes)

    return forward(with_integer_weights(vit, recipe), images, quantize_input)


def dynamically_quantized(x: Array, axes: tuple[int, ...]) -> Array:
    """Asymmetric quantization to 256 levels between the extremes over ``axes``, and back.

    The range contains 0 and 0 is exact, as XNNPACK's qd8 (per token) and ONNX's
    DynamicQuantizeLinear (per tensor) have it. An image of a batch is a tensor of its own.
    """
    low = np.minimum(x.min(axis=axes, keepdims=True), 0)
    high = np.maximum(x.max(axis=axes, keepdims=True), 0)
    scale = (high - low) / np.float32(LEVELS - 1)
    scale = np.where(scale > 0, scale, np.float32(1))
    zero = np.rint(-low / scale)
    integers = np.clip(np.rint(x / scale) + zero, 0, LEVELS - 1)
    kept: Array = ((integers - zero) * scale).astype(np.float32)
    return kept


def with_integer_weights(vit: ViT, recipe: Recipe) -> ViT:
    """The ViT whose weights are what the recipe's integers stand for."""

    def changed(name: str, layer: Linear) -> Linear:
        weight = recipe.weights.get(name)
        return layer if weight is None else replace(layer, weight=weight.dequantized())

    def changed_block(index: int, block: Block) -> Block:
        name = f"blocks.{index}"
        return replace(
            block,
            q=changed(f"{name}.q", block.q),
            k=changed(f"{name}.k", block.k),
            v=changed(f"{name}.v", block.v),
            out=changed(f"{name}.out", block.out),
            fc1=changed(f"{name}.fc1", block.fc1),
            fc2=changed(f"{name}.fc2", block.fc2),
        )

    return replace(
        vit,
        patch=changed("patch", vit.patch),
        blocks=tuple(changed_block(index, block) for index, block in enumerate(vit.blocks)),
        head_hidden=tuple(
            changed(f"head_hidden.{index}", layer) for index, layer in enumerate(vit.head_hidden)
        ),
        head=changed("head", vit.head),
    )
