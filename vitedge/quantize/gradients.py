"""How much an error at the input of a linear layer moves the logits.

Squared error of a layer's input or output is a poor guide in a ViT: a clipped outlier of a few
tokens can cost more than rounding everywhere. What counts is the error of the logits, which is to
first order ``J e`` for an error ``e`` of the input with the Jacobian ``J`` of the logits. For a
random direction ``r`` of the logits with ``E[r rᵀ] = I``, ``g = Jᵀ r`` is one backward pass, and::

    E_r[(g · e)²]  =  |J e|²

so gradients kept beside sampled inputs turn any quantizer's error into an error of the logits
(the Gauss-Newton approximation, as in K-FAC, arXiv:1503.05671).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import (
    Array,
    Block,
    Linear,
    Norm,
    Observer,
    ViT,
    activate,
    embed,
    normalize,
    pool,
    softmax,
)

Recorder: TypeAlias = Callable[[str, Array, Array], None]
"""Called with the name of a linear layer, its input ``(N, ..., inputs)`` and the gradient there.

Where q, k and v read the same tokens, it is called once, as ``k``, with the sum of their gradients.
"""

# Central differences of an activation: the error is the step's square, the rounding 1e-7 / step.
_STEP = np.float32(1e-2)


def record_gradients(
    vit: ViT,
    images: npt.NDArray[Any],
    directions: Array,
    record: Recorder,
    observe: Observer | None = None,
) -> Array:
    """Runs forward and backward once and hands out each linear layer's input and gradient.

    Memory is that of all activations of the images.

    Args:
        vit: The model.
        images: Pixels ``(N, H, W, C)``.
        directions: Gradient of the logits, ``(N, classes)``.
        record: Called from the head back to the first block; the patch projection is left out.
        observe: Called with the input of the patch projection.

    Returns:
        The logits, ``(N, classes)``.
    """
    x = embed(vit, images, observe)
    passes = []
    for index, block in enumerate(vit.blocks):
        passes.append(_BlockPass(vit, block, x, index))
        x = passes[-1].output
    logits, gradient = _head(vit, x, directions, record)
    while passes:
        gradient = passes.pop().backward(gradient, record)
    return logits


class _BlockPass:
    """One block forward, keeping what its way back needs."""

    def __init__(self, vit: ViT, block: Block, x: Array, index: int) -> None:
        config = vit.config
        self._vit, self._block, self._x, self._name = vit, block, x, f"blocks.{index}"
        self._pruned = config.pooled_queries_only and index == config.depth - 1
        self._queries = config.pooled_prefix if self._pruned else config.tokens
        self._pre = config.norm_position is NormPosition.PRE
        kind = config.norm_kind
        self._attended = normalize(x, block.norm1, kind) if self._pre else x
        summed = x[:, : self._queries] + self._attend()
        self._summed = summed
        self._mlp_input = normalize(summed, block.norm2 if self._pre else block.norm1, kind)
        self._inner = self._mlp_input @ block.fc1.weight + block.fc1.bias
        self._hidden = activate(self._inner, config.activation)
        grown = self._hidden @ block.fc2.weight + block.fc2.bias
        self._total = (summed if self._pre else self._mlp_input) + grown
        self.output = self._total if self._pre else normalize(self._total, block.norm2, kind)

    def _attend(self) -> Array:
        block, config = self._block, self._vit.config
        x = self._attended
        raw_q = self._heads(x[:, : self._queries] @ block.q.weight + block.q.bias)
        raw_k = self._heads(x @ block.k.weight + block.k.bias)
        self._raw_q, self._raw_k = raw_q, raw_k
        self._q = raw_q if block.q_norm is None else normalize(raw_q, block.q_norm)
        self._k = raw_k if block.k_norm is None else normalize(raw_k, block.k_norm)
        self._v = self._heads(x @ block.v.weight + block.v.bias)
        scores = self._q @ self._k.swapaxes(-1, -2) * np.float32(config.attention_scale)
        self._shares = softmax(scores)
        self._mixed = self._merged(self._shares @ self._v)
        result: Array = self._mixed @ block.out.weight + block.out.bias
        return result

    def backward(self, gradient: Array, record: Recorder) -> Array:
        """The gradient at the block's input from that at its output."""
        block, kind = self._block, self._vit.config.norm_kind
        if not self._pre:
            gradient = norm_gradient(self._total, block.norm2, kind, gradient)
        through = self._mlp_backward(gradient, record)
        if self._pre:
            gradient = gradient + norm_gradient(self._summed, block.norm2, kind, through)
        else:
            gradient = norm_gradient(self._summed, block.norm1, kind, gradient + through)
        attended = self._attention_backward(gradient, record)
        if self._pre:
            attended = norm_gradient(self._x, block.norm1, kind, attended)
        attended[:, : self._queries] += gradient
        return attended

    def _mlp_backward(self, gradient: Array, record: Recorder) -> Array:
        block = self._block
        at_hidden: Array = gradient @ block.fc2.weight.T
        record(f"{self._name}.fc2", self._hidden, at_hidden)
        at_inner: Array = at_hidden * activation_slope(self._inner, self._vit.config.activation)
        at_input: Array = at_inner @ block.fc1.weight.T
        record(f"{self._name}.fc1", self._mlp_input, at_input)
        return at_input

    def _attention_backward(self, gradient: Array, record: Recorder) -> Array:
        block, config = self._block, self._vit.config
        at_mixed: Array = gradient @ block.out.weight.T
        record(f"{self._name}.out", self._mixed, at_mixed)
        mixed = self._heads(at_mixed)
        at_v = self._shares.swapaxes(-1, -2) @ mixed
        at_shares = mixed @ self._v.swapaxes(-1, -2)
        inner: Array = (at_shares * self._shares).sum(axis=-1, keepdims=True)
        at_scores = self._shares * (at_shares - inner) * np.float32(config.attention_scale)
        at_q, at_k = at_scores @ self._k, at_scores.swapaxes(-1, -2) @ self._q
        if block.q_norm is not None:
            at_q = norm_gradient(self._raw_q, block.q_norm, NormKind.LAYER, at_q)
        if block.k_norm is not None:
            at_k = norm_gradient(self._raw_k, block.k_norm, NormKind.LAYER, at_k)
        through_q = self._merged(at_q) @ block.q.weight.T
        total: Array = self._merged(at_k) @ block.k.weight.T
        total += self._merged(at_v) @ block.v.weight.T
        x = self._attended
        if self._pruned:
            record(f"{self._name}.q", x[:, : self._queries], through_q)
            record(f"{self._name}.k", x, total.copy())
            total[:, : self._queries] += through_q
        else:
            total += through_q
            record(f"{self._name}.k", x, total)
        return total

    def _heads(self, x: Array) -> Array:
        config = self._vit.config
        return x.reshape(*x.shape[:2], config.heads, config.head_dim).swapaxes(1, 2)

    def _merged(self, x: Array) -> Array:
        swapped = x.swapaxes(1, 2)
        return swapped.reshape(*swapped.shape[:2], -1)


def norm_gradient(x: Array, norm: Norm, kind: NormKind, gradient: Array) -> Array:
    """The gradient at a norm's input from that at its output."""
    plain = replace(norm, gamma=np.ones_like(norm.gamma), beta=np.zeros_like(norm.beta))
    normed = normalize(x, plain, kind)
    centred = x - x.mean(axis=-1, keepdims=True) if kind is NormKind.LAYER else x
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(norm.eps))
    inner = gradient * norm.gamma
    result = inner - normed * (inner * normed).mean(axis=-1, keepdims=True)
    if kind is NormKind.LAYER:
        result -= inner.mean(axis=-1, keepdims=True)
    scaled: Array = result * scale
    return scaled


def activation_slope(x: Array, activation: Activation) -> Array:
    """The derivative of an activation, by central differences."""
    difference = activate(x + _STEP, activation) - activate(x - _STEP, activation)
    slope: Array = difference / (2 * _STEP)
    return slope


def _head(vit: ViT, x: Array, directions: Array, record: Recorder) -> tuple[Array, Array]:
    """The logits, and the gradient at the tokens ``x`` after the last block."""
    config = vit.config
    normed = x if vit.norm is None else normalize(x, vit.norm, config.norm_kind)
    pooled = pool(config, normed)
    parts = pooled.reshape(len(x), -1, config.dim)
    entering = [pooled]
    if vit.pooled_norm is not None:
        entering = [normalize(parts, vit.pooled_norm, config.norm_kind).reshape(pooled.shape)]
    inner: list[Array] = []
    for layer in vit.head_hidden:
        inner.append(entering[-1] @ layer.weight + layer.bias)
        entering.append(activate(inner[-1], config.head_activation))
    logits: Array = entering[-1] @ vit.head.weight + vit.head.bias
    gradient: Array = directions
    layers: list[tuple[str, Linear]] = [
        (f"head_hidden.{index}", layer) for index, layer in enumerate(vit.head_hidden)
    ]
    layers.append(("head", vit.head))
    for index in range(len(layers) - 1, -1, -1):
        name, layer = layers[index]
        gradient = gradient @ layer.weight.T
        record(name, entering[index], gradient)
        if index:
            gradient = gradient * activation_slope(inner[index - 1], config.head_activation)
    if vit.pooled_norm is not None:
        at_parts = gradient.reshape(parts.shape)
        gradient = norm_gradient(parts, vit.pooled_norm, config.norm_kind, at_parts)
        gradient = gradient.reshape(pooled.shape)
    gradient = _unpooled(vit, x, gradient)
    if vit.norm is not None:
        gradient = norm_gradient(x, vit.norm, config.norm_kind, gradient)
    return logits, gradient


def _unpooled(vit: ViT, x: Array, gradient: Array) -> Array:
    """The gradient at the tokens from that at the pooled vector."""
    config = vit.config
    at_tokens = np.zeros_like(x)
    patches = slice(config.prefix_tokens, None)
    match config.pooling:
        case Pooling.CLASS:
            at_tokens[:, 0] = gradient
        case Pooling.DISTILLED:
            at_tokens[:, :2] = gradient.reshape(len(x), 2, -1)
        case Pooling.MEAN:
            at_tokens[:, patches] = gradient[:, None] / config.patches
        case Pooling.CLASS_AND_MEAN:
            at_tokens[:, 0] = gradient[:, : config.dim]
            at_tokens[:, patches] += gradient[:, None, config.dim :] / config.patches
        case Pooling.FLATTEN:
            at_tokens = gradient.reshape(x.shape)
    return at_tokens
