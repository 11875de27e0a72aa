"""The walk through a ViT in the order of computation; what is done at a step is the subclass's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import Array, Block, Linear, Norm, ViT

Value = TypeVar("Value")
"""What stands for a tensor of the graph: a number, a name, a node."""


class Walk(ABC, Generic[Value]):
    """Emits the graph of a ViT, part by part in the order of computation.

    Subclasses provide the steps. Names given to steps are those of the ViT's parts, so that a
    profile or an error message reads in the model's own words. Method names mirror
    ``vitedge.vit``.

    Args:
        vit: The model.
        batch: Static batch size.
    """

    tokens_are_rows: bool
    """Whether tokens are a matrix ``(batch * tokens, dim)``, or ``(batch, tokens, dim)``."""

    joins_products: bool = True
    """Whether queries, keys and values are one product; an integer tensor has one range, and theirs
    differ."""

    def __init__(self, vit: ViT, batch: int) -> None:
        self.vit, self.batch = vit, batch
        self.config = vit.config

    # --- the walk

    def walk(self, pixels: Value) -> Value:
        """From pixels ``(batch, H, W, C)`` to logits ``(batch, classes)``."""
        config = self.config
        if not config.raw_pixels:
            # Somebody left out the rewrite that folds it.
            mean, std = (
                np.asarray(each, np.float64)
                for each in (self.vit.preprocessing.mean, self.vit.preprocessing.std)
            )
            pixels = self.scale_pixels(
                pixels, (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
            )
        x = self._embed(pixels)
        for index, block in enumerate(self.vit.blocks):
            last = index == config.depth - 1
            queries = config.pooled_prefix if config.pooled_queries_only and last else config.tokens
            x = self._block(block, x, f"blocks.{index}", queries)
        if self.vit.norm is not None:
            x = self.norm(self.vit.norm, x, "norm", config.norm_kind)
        return self._head(self._pool(x))

    def _embed(self, pixels: Value) -> Value:
        config, vit = self.config, self.vit
        tokens = self.add(
            self.patches(pixels), self.constant("positions", vit.positions), "embedded"
        )
        if config.prefix_tokens:
            prefix = np.broadcast_to(vit.prefix, (self.batch, *vit.prefix.shape))
            tokens = self.concatenate([self.constant("prefix", prefix), tokens], "tokens")
        x = self._stream(tokens, config.tokens, "stream")
        if vit.input_norm is not None:
            x = self.norm(vit.input_norm, x, "input_norm", config.norm_kind)
        return x

    def _block(self, block: Block, x: Value, name: str, queries: int) -> Value:
        kind = self.config.norm_kind
        pre = self.config.norm_position is NormPosition.PRE
        normed = self.norm(block.norm1, x, f"{name}.norm1", kind) if pre else x
        mixed = self._attention(block, normed, name, queries)
        kept = x if queries == self.config.tokens else self._leading(x, queries, f"{name}/kept")
        x = self.add(kept, mixed, f"{name}/attended")
        if not pre:
            x = self.norm(block.norm1, x, f"{name}.norm1", kind)
        normed = self.norm(block.norm2, x, f"{name}.norm2", kind) if pre else x
        hidden = self._linear(block.fc1, normed, f"{name}.fc1")
        hidden = self.activate(hidden, self.config.activation, f"{name}.fc1")
        x = self.add(x, self._linear(block.fc2, hidden, f"{name}.fc2"), f"{name}/out")
        return x if pre else self.norm(block.norm2, x, f"{name}.norm2", kind)

    def _attention(self, block: Block, x: Value, name: str, queries: int) -> Value:
        config = self.config
        if queries == config.tokens:
            q, k, v = self._heads(block, ("q", "k", "v"), x, name, queries)
        else:
            few = self._leading(x, queries, f"{name}/pooled")
            (q,) = self._heads(block, ("q",), few, name, queries)
            k, v = self._heads(block, ("k", "v"), x, name, config.tokens)
        if block.q_norm is not None:
            q = self.norm(block.q_norm, q, f"{name}.q_norm", NormKind.LAYER)
        if block.k_norm is not None:
            k = self.norm(block.k_norm, k, f"{name}.k_norm", NormKind.LAYER)
        mixed = self.attend(q, k, v, queries, name)
        joined = self.transpose(mixed, (0, 2, 1, 3), f"{name}/joined")
        joined = self.reshape(joined, self._shape(queries, config.attention_dim), f"{name}/heads")
        return self._linear(block.out, joined, f"{name}.out")

    def _heads(
        self, block: Block, names: Sequence[str], x: Value, block_name: str, tokens: int
    ) -> list[Value]:
        """Several of q, k, v, by one matrix product or one each."""
        layers = {f"{block_name}.{name}": getattr(block, name) for name in names}
        if self.joins_products:
            return self.split_heads(self.linears(layers, x), names, block_name, tokens)
        products = [self.linears({label: layer}, x) for label, layer in layers.items()]
        return [
            self.split_heads(product, [name], block_name, tokens)[0]
            for name, product in zip(names, products, strict=True)
        ]

    def _pool(self, x: Value) -> Value:
        """Tokens to the vector that the head reads, ``(batch, pooled_dim)``."""
        config, batch = self.config, self.batch
        if config.pooled_queries_only or config.pooling is Pooling.FLATTEN:
            return self.reshape(x, (batch, config.pooled_dim), "pooled")
        tokens = self._tokens(x, config.tokens, "pooled/tokens")
        parts = []
        if config.pooled_prefix:
            few = self.tokens_from(tokens, 0, config.pooled_prefix, "pooled/prefix")
            shape = (batch, config.pooled_prefix * config.dim)
            parts.append(self.reshape(few, shape, "pooled/class"))
        if config.pooling in (Pooling.MEAN, Pooling.CLASS_AND_MEAN):
            if config.prefix_tokens:
                first, count = config.prefix_tokens, config.patches
                tokens = self.tokens_from(tokens, first, count, "pooled/patches")
            parts.append(self.mean_of_tokens(tokens, "pooled/mean"))
        return parts[0] if len(parts) == 1 else self.concatenate(parts, "pooled")

    def _head(self, pooled: Value) -> Value:
        config = self.config
        if self.vit.pooled_norm is not None:
            parts = self.reshape(pooled, (-1, config.dim), "pooled/parts")
            normed = self.norm(self.vit.pooled_norm, parts, "pooled_norm", config.norm_kind)
            pooled = self.reshape(normed, (self.batch, config.pooled_dim), "pooled/normed")
        for index, layer in enumerate(self.vit.head_hidden):
            hidden = self._linear(layer, pooled, f"head_hidden.{index}")
            pooled = self.activate(hidden, config.head_activation, f"head_hidden.{index}")
        return self._linear(self.vit.head, pooled, "head")

    def _linear(self, layer: Linear, x: Value, name: str) -> Value:
        return self.linears({name: layer}, x)

    def _leading(self, x: Value, queries: int, name: str) -> Value:
        """The first tokens of each image, from and to the stream's layout."""
        tokens = self._tokens(x, self.config.tokens, f"{name}/tokens")
        return self._stream(self.tokens_from(tokens, 0, queries, name), queries, f"{name}/rows")

    def _shape(self, tokens: int, width: int) -> tuple[int, ...]:
        """Shape of a stream of so many tokens an image."""
        if self.tokens_are_rows:
            return (self.batch * tokens, width)
        return (self.batch, tokens, width)

    def _stream(self, tokens: Value, count: int, name: str) -> Value:
        """``(batch, count, dim)`` in the stream's layout."""
        if not self.tokens_are_rows:
            return tokens
        return self.reshape(tokens, self._shape(count, self.config.dim), name)

    def _tokens(self, x: Value, count: int, name: str) -> Value:
        """The stream as ``(batch, count, dim)``."""
        if not self.tokens_are_rows:
            return x
        return self.reshape(x, (self.batch, count, self.config.dim), name)

    # --- the steps

    @abstractmethod
    def scale_pixels(self, pixels: Value, factor: Array, offset: Array) -> Value:
        """``pixels * factor + offset``, one of each for a channel."""

    @abstractmethod
    def patches(self, pixels: Value) -> Value:
        """The projected patches, ``(batch, patches, dim)``, without positions."""

    @abstractmethod
    def linears(self, layers: dict[str, Linear], x: Value) -> Value:
        """Linear layers on the same input as one product, their outputs side by side."""

    @abstractmethod
    def norm(self, norm: Norm, x: Value, name: str, kind: NormKind) -> Value:
        """A norm over the last axis; gamma of ones and beta of zeros cost nothing."""

    @abstractmethod
    def activate(self, x: Value, activation: Activation, name: str) -> Value:
        """A non-linearity, element by element."""

    @abstractmethod
    def split_heads(
        self, joined: Value, names: Sequence[str], block_name: str, tokens: int
    ) -> list[Value]:
        """Several of q, k, v side by side, as ``(batch, heads, tokens, head_dim)`` each."""

    @abstractmethod
    def attend(self, q: Value, k: Value, v: Value, queries: int, name: str) -> Value:
        """Attention by ``config.attention_scale``, ``(batch, heads, queries, head_dim)``."""

    @abstractmethod
    def add(self, a: Value, b: Value, name: str) -> Value:
        """A sum, with broadcasting."""

    @abstractmethod
    def concatenate(self, values: list[Value], name: str) -> Value:
        """Along axis 1."""

    @abstractmethod
    def reshape(self, x: Value, shape: tuple[int, ...], name: str) -> Value:
        """Another shape of the same elements; one size may be -1."""

    @abstractmethod
    def transpose(self, x: Value, order: tuple[int, ...], name: str) -> Value:
        """Axes in another order."""

    @abstractmethod
    def tokens_from(self, tokens: Value, first: int, count: int, name: str) -> Value:
        """Some neighbouring tokens out of ``(batch, tokens, dim)``, as ``(batch, count, dim)``."""

    @abstractmethod
    def mean_of_tokens(self, tokens: Value, name: str) -> Value:
        """``(batch, tokens, dim)`` to ``(batch, dim)``."""

    @abstractmethod
    def constant(self, name: str, values: npt.NDArray[Any] | Array) -> Value:
        """A constant of the array's dtype."""
