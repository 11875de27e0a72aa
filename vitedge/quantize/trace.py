"""The walk in NumPy, showing every number that an all-integer graph holds.

``vitedge.vit.forward`` shows the inputs of linear layers alone. A graph without any float operator
rounds every tensor in between as well, so calibration has to see, and simulation to replace, each
of them under the name that converters give it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import ConversionError
from vitedge.spec import Activation, NormKind
from vitedge.vit import Array, Linear, Norm, ViT, activate, patchify, softmax
from vitedge.walk import Walk

Entering: TypeAlias = Callable[[str, Array], Array]
"""Called with a linear layer's name and input; returns what the walk goes on with."""

Made: TypeAlias = Callable[[str, Array, bool], Array]
"""Called with a tensor's name, its value ``(batch, ...)``, and whether it is *narrow*: read or made
by a product, where integer units take 8 bits. Returns what the walk goes on with."""

# Linear layers that see one or two tokens cost no time, but the whole signal passes there: their
# numbers are wide.
FEW_TOKENS = 2


def trace(vit: ViT, images: npt.NDArray[Any], made: Made, entering: Entering) -> Array:
    """The logits ``(N, classes)``, as the walk of an all-integer graph computes them.

    Args:
        vit: The model, already rewritten.
        images: Pixels ``(N, H, W, C)``.
        made: Called with each tensor that an operator makes; those that only move numbers
            (reshape, transpose, slice) make none.
        entering: Called with each linear layer's name and input.
    """
    return _Trace(vit, len(images), made, entering).walk(images.astype(np.float32, copy=False))


class _Trace(Walk[Array]):
    """The steps as NumPy; norms are decomposed as formats without a norm operator have them."""

    tokens_are_rows = False

    def __init__(self, vit: ViT, batch: int, made: Made, entering: Entering) -> None:
        super().__init__(vit, batch)
        self._made, self._entering = made, entering

    def scale_pixels(self, pixels: Array, factor: Array, offset: Array) -> Array:
        raise ConversionError(
            "an all-integer artefact takes the pixels' own integers; do not leave out "
            "fold-input-normalization"
        )

    def patches(self, pixels: Array) -> Array:
        patches = patchify(pixels, self.config.patch_size)
        return self._wide("patch", self._product("patch", self.vit.patch, patches))

    def linears(self, layers: dict[str, Linear], x: Array) -> Array:
        outputs = []
        for name, layer in layers.items():
            narrow = is_always_narrow(name) or (x.ndim > 2 and x.shape[1] > FEW_TOKENS)
            outputs.append(self._made(name, self._product(name, layer, x), narrow))
        return np.concatenate(outputs, axis=-1)

    def _product(self, name: str, layer: Linear, x: Array) -> Array:
        product: Array = self._entering(name, x) @ layer.weight + layer.bias
        return product

    def norm(self, norm: Norm, x: Array, name: str, kind: NormKind) -> Array:
        if kind is NormKind.LAYER:
            mean: Array = x.mean(axis=-1, keepdims=True)
            x = self._wide(f"{name}/centred", x - self._wide(f"{name}/mean", mean))
        square: Array = x * x
        mean_square: Array = square.mean(axis=-1, keepdims=True)
        variance = self._wide(f"{name}/variance", mean_square)
        inverse: Array = (1 / np.sqrt(variance + norm.eps)).astype(np.float32)
        x = self._wide(name, x * self._wide(f"{name}/inverse", inverse))
        if not np.all(norm.gamma == 1):
            x = self._wide(f"{name}/scaled", x * norm.gamma)
        if np.any(norm.beta != 0):
            x = self._wide(f"{name}/shifted", x + norm.beta)
        return x

    def activate(self, x: Array, activation: Activation, name: str) -> Array:
        label = f"{name}/{activation}"
        if activation not in (Activation.QUICK_GELU, Activation.SILU):
            return self._made(label, activate(x, activation), True)
        inner = x
        if activation is Activation.QUICK_GELU:
            inner = self._made(f"{label}/scaled", x * np.float32(1.702), True)
        gate: Array = np.float32(1) / (np.float32(1) + np.exp(-inner))
        return self._made(label, x * self._made(f"{label}/gate", gate, True), True)

    def split_heads(
        self, joined: Array, names: Sequence[str], block_name: str, tokens: int
    ) -> list[Array]:
        config = self.config
        shape = (self.batch, tokens, config.heads, config.head_dim)
        parts = np.split(joined, len(names), axis=-1)
        return [part.reshape(shape).transpose(0, 2, 1, 3) for part in parts]

    def attend(self, q: Array, k: Array, v: Array, queries: int, name: str) -> Array:
        if self.vit.blocks[0].q_norm is not None:
            # Products made them narrow; norms make them wide again.
            q = self._made(f"{name}/queries", q, True)
        if self.vit.blocks[0].k_norm is not None:
            k = self._made(f"{name}/keys", k, True)
        scores = self._made(f"{name}/scores", q @ k.swapaxes(-1, -2), True)
        if self.config.attention_scale != 1.0:
            scaled = scores * np.float32(self.config.attention_scale)
            scores = self._made(f"{name}/scaled", scaled, True)
        # Eight bits for shares of 1/197 are a step or two; they are wide, and where only narrow
        # products are to be had two of them make one.
        shares = self._wide(f"{name}/softmax", softmax(scores))
        high = np.minimum(np.rint(shares * np.float32(256)), np.float32(255)) / np.float32(256)
        coarse = self._made(f"{name}/mixed_high", high @ v, True)
        fine = self._made(f"{name}/mixed_low", (shares - high) @ v, True)
        mixed: Array = coarse + fine
        return self._made(f"{name}/mixed", mixed, True)

    def add(self, a: Array, b: Array, name: str) -> Array:
        return self._wide(name, a + b)

    def _wide(self, name: str, x: Array) -> Array:
        return self._made(name, x, False)

    def concatenate(self, values: list[Array], name: str) -> Array:
        return self._wide(name, np.concatenate(values, axis=1))

    def reshape(self, x: Array, shape: tuple[int, ...], name: str) -> Array:
        return x.reshape(shape)

    def transpose(self, x: Array, order: tuple[int, ...], name: str) -> Array:
        return x.transpose(order)

    def tokens_from(self, tokens: Array, first: int, count: int, name: str) -> Array:
        return tokens[:, first : first + count]

    def mean_of_tokens(self, tokens: Array, name: str) -> Array:
        mean: Array = tokens.mean(axis=1)
        return self._wide(name, mean)

    def constant(self, name: str, values: npt.NDArray[Any] | Array) -> Array:
        return values


def is_always_narrow(name: str) -> bool:
    """Whether what a linear layer makes is narrow however few tokens it sees.

    Queries meet keys in a product; activation tables of 16 bits are not to be had everywhere.
    """
    return name.rpartition(".")[2] in ("q", "k", "v", "fc1") or name.startswith("head_hidden")
