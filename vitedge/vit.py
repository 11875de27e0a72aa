"""The canonical Vision Transformer: a config and float32 arrays, in plain NumPy.

Whatever a model came from, this is what every rewrite, quantizer and converter sees
(Dosovitskiy et al., arXiv:2010.11929, and its descendants). Normalising moves of a format are
made on the way in: LayerScale is multiplied into the projection before it, a class token and its
position are one constant, missing biases are zeros. The reference forward pass at the end is the
oracle that all else is tested against; it is written to be read, not to be fast.

A linear layer computes ``x @ weight + bias``; images are raw pixels 0..255 in NHWC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.numerics import activate, softmax
from vitedge.network.numerics import normalize as _normalized
from vitedge.network.operators import Array, Linear, Norm
from vitedge.preprocess import Preprocessing
from vitedge.spec import Activation, NormKind, NormPosition, Pooling

__all__ = [
    "Array", "Block", "Linear", "Norm", "Observer", "ViT", "ViTConfig", "activate", "embed",
    "expected_shapes", "forward", "normalize", "patchify", "pool", "softmax",
]  # fmt: skip

Observer: TypeAlias = Callable[[str, Array], Array | None]
"""Called with a linear layer's name and its input ``(..., inputs)`` as the forward reaches it.

An array that it returns takes the input's place; that is how quantization is simulated."""


@dataclass(frozen=True)
class ViTConfig:
    """The sizes and choices of a Vision Transformer.

    Attributes:
        image_size: Height and width in pixels; multiples of the patch size.
        patch_size: Height and width of a patch in pixels.
        channels: 3 for RGB, 1 for grey.
        dim: Width of the residual stream.
        depth: Number of blocks.
        heads: Attention heads per block.
        head_dim: Width of one head's query, key and value.
        mlp_dim: Width of the hidden layer of each MLP.
        classes: Number of logits.
        prefix_tokens: Learned tokens before the patches: class, distillation, registers.
        pooling: What the head reads.
        activation: Non-linearity of the MLPs.
        norm_position: Before each sublayer, or after each sum.
        norm_kind: LayerNorm or RMSNorm, for all norms but those of queries and keys.
        attention_scale: Factor on the query-key products before the softmax.
        head_activation: Non-linearity after each hidden layer of the head.
        pooled_queries_only: The last block computes only the tokens that the head reads.
        raw_pixels: The patch projection takes pixels 0..255: normalisation is folded into it.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    channels: int
    dim: int
    depth: int
    heads: int
    head_dim: int
    mlp_dim: int
    classes: int
    prefix_tokens: int = 1
    pooling: Pooling = Pooling.CLASS
    activation: Activation = Activation.GELU
    norm_position: NormPosition = NormPosition.PRE
    norm_kind: NormKind = NormKind.LAYER
    attention_scale: float = 0.125
    head_activation: Activation = Activation.TANH
    pooled_queries_only: bool = False
    raw_pixels: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "dim", "depth", "heads", "head_dim", "mlp_dim", "classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for image, patch in zip(self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < patch or image % patch:
                raise ValueError(
                    f"image size {self.image_size} is not a multiple of patch size "
                    f"{self.patch_size}"
                )
        if self.prefix_tokens < self.pooled_prefix:
            raise ValueError(
                f"pooling '{self.pooling}' reads {self.pooled_prefix} prefix tokens, "
                f"the model has {self.prefix_tokens}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return (
            self.image_size[0] // self.patch_size[0],
            self.image_size[1] // self.patch_size[1],
        )

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Number of all tokens: prefix, then patches row by row."""
        return self.prefix_tokens + self.patches

    @property
    def attention_dim(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def pooled_prefix(self) -> int:
        """How many leading tokens the head reads one by one."""
        return {Pooling.CLASS: 1, Pooling.DISTILLED: 2, Pooling.CLASS_AND_MEAN: 1}.get(
            self.pooling, 0
        )

    @property
    def pooled_dim(self) -> int:
        """Width of the vector that the head reads."""
        vectors = {Pooling.FLATTEN: self.tokens, Pooling.DISTILLED: 2, Pooling.CLASS_AND_MEAN: 2}
        return self.dim * vectors.get(self.pooling, 1)

    @property
    def reads_prefix_only(self) -> bool:
        """Whether the head reads leading tokens and nothing of the patches."""
        return self.pooling in (Pooling.CLASS, Pooling.DISTILLED)


@dataclass(frozen=True, eq=False)
class Block:
    """One transformer block; ``q``, ``k``, ``v`` hold all heads side by side, head-major."""

    norm1: Norm
    q: Linear
    k: Linear
    v: Linear
    out: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear
    q_norm: Norm | None = None
    k_norm: Norm | None = None

    LINEARS = ("q", "k", "v", "out", "fc1", "fc2")


@dataclass(frozen=True, eq=False)
class ViT:
    """A whole Vision Transformer.

    Attributes:
        config: Sizes and choices.
        patch: Projection of a flattened patch (row, column, channel order) of normalised pixels:
            weight ``(patch_height * patch_width * channels, dim)``.
        prefix: The prefix tokens with their positions added, ``(prefix_tokens, dim)``.
        positions: Added to the projected patches, ``(patches, dim)``.
        input_norm: Norm of all tokens before the first block (CLIP), or None.
        blocks: The transformer blocks.
        norm: Norm of the tokens after the last block, or None.
        pooled_norm: Norm after pooling (over each pooled token), or None.
        head_hidden: Hidden layers of the head, each followed by ``config.head_activation``.
        head: The classifier.
        preprocessing: How images become pixels; its mean and std are applied by ``forward``
            unless ``config.raw_pixels`` says that they are folded into ``patch``.
        labels: One name per class, or empty when nobody gave any.
    """

    config: ViTConfig
    patch: Linear
    prefix: Array
    positions: Array
    blocks: tuple[Block, ...]
    norm: Norm | None
    head: Linear
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    input_norm: Norm | None = None
    pooled_norm: Norm | None = None
    head_hidden: tuple[Linear, ...] = field(default=())

    def __post_init__(self) -> None:
        config = self.config
        if self.labels and len(self.labels) != config.classes:
            raise ValueError(f"{len(self.labels)} labels for {config.classes} classes")
        if len(self.blocks) != config.depth:
            raise ValueError(f"{len(self.blocks)} blocks for a depth of {config.depth}")
        if (
            self.preprocessing.size != config.image_size
            or self.preprocessing.channels != config.channels
        ):
            raise ValueError(
                f"preprocessing makes {self.preprocessing.size} pixels of "
                f"{self.preprocessing.channels} channels, the model takes {config.image_size} of "
                f"{config.channels}"
            )
        expected = expected_shapes(config, [layer.weight.shape[1] for layer in self.head_hidden])
        for name, array in self.named_arrays():
            if array.shape != expected[name]:
                raise ValueError(f"{name} has shape {array.shape}, expected {expected[name]}")
            if array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype}, expected float32")

    def named_linears(self) -> Iterator[tuple[str, Linear]]:
        """All linear layers in the order of computation, named as in reports and recipes."""
        yield "patch", self.patch
        for index, block in enumerate(self.blocks):
            for name in Block.LINEARS:
                yield f"blocks.{index}.{name}", getattr(block, name)
        for index, layer in enumerate(self.head_hidden):
            yield f"head_hidden.{index}", layer
        yield "head", self.head

    def named_norms(self) -> Iterator[tuple[str, Norm]]:
        """All norms that are present."""
        norms: list[tuple[str, Norm | None]] = [("input_norm", self.input_norm)]
        for index, block in enumerate(self.blocks):
            for name in ("norm1", "q_norm", "k_norm", "norm2"):
                norms.append((f"blocks.{index}.{name}", getattr(block, name)))
        norms += [("norm", self.norm), ("pooled_norm", self.pooled_norm)]
        for name, norm in norms:
            if norm is not None:
                yield name, norm

    def named_arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array with its name."""
        yield "prefix", self.prefix
        yield "positions", self.positions
        for name, linear in self.named_linears():
            yield f"{name}.weight", linear.weight
            yield f"{name}.bias", linear.bias
        for name, norm in self.named_norms():
            yield f"{name}.gamma", norm.gamma
            yield f"{name}.beta", norm.beta

    def map_blocks(self, change: Callable[[Block], Block]) -> ViT:
        """A ViT whose blocks are each replaced by ``change(block)``."""
        return replace(self, blocks=tuple(change(block) for block in self.blocks))

    @property
    def parameters(self) -> int:
        """Number of array elements."""
        return sum(array.size for _, array in self.named_arrays())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, linear layers and attention products."""
        config = self.config
        total = config.patches * self.patch.weight.size
        for index in range(config.depth):
            pruned = config.pooled_queries_only and index == config.depth - 1
            queries = config.pooled_prefix if pruned else config.tokens
            block = self.blocks[index]
            total += config.tokens * (block.k.weight.size + block.v.weight.size)
            for name in ("q", "out", "fc1", "fc2"):
                total += queries * getattr(block, name).weight.size
            total += 2 * queries * config.tokens * config.attention_dim
        return total + sum(layer.weight.size for layer in (*self.head_hidden, self.head))


def expected_shapes(config: ViTConfig, hidden: list[int]) -> dict[str, tuple[int, ...]]:
    """Shape of every array that a ViT of this config may have."""
    dim, wide = config.dim, config.attention_dim
    patch_inputs = config.patch_size[0] * config.patch_size[1] * config.channels
    linears = {"patch": (patch_inputs, dim)}
    norms = dict.fromkeys(("input_norm", "norm", "pooled_norm"), dim)
    for index in range(config.depth):
        name = f"blocks.{index}"
        linears |= {f"{name}.{layer}": (dim, wide) for layer in ("q", "k", "v")}
        linears |= {
            f"{name}.out": (wide, dim),
            f"{name}.fc1": (dim, config.mlp_dim),
            f"{name}.fc2": (config.mlp_dim, dim),
        }
        norms |= {f"{name}.norm1": dim, f"{name}.norm2": dim}
        norms |= {f"{name}.{norm}": config.head_dim for norm in ("q_norm", "k_norm")}
    widths = [config.pooled_dim, *hidden]
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        linears[f"head_hidden.{index}"] = (inputs, outputs)
    linears["head"] = (widths[-1], config.classes)
    shapes: dict[str, tuple[int, ...]] = {
        "prefix": (config.prefix_tokens, dim),
        "positions": (config.patches, dim),
    }
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[1:]}
    for name, width in norms.items():
        shapes |= {f"{name}.gamma": (width,), f"{name}.beta": (width,)}
    return shapes


# --- the reference forward pass -------------------------------------------------------------


def forward(vit: ViT, images: npt.NDArray[Any], observe: Observer | None = None) -> Array:
    """Computes the logits of raw pixels.

    Args:
        vit: The model.
        images: Pixels 0..255 of any real dtype, shape ``(N, H, W, C)``.
        observe: Called with each linear layer's name and input on the way; may replace the input.

    Returns:
        Logits, shape ``(N, classes)``.
    """
    config = vit.config
    x = embed(vit, images, observe)
    for index, block in enumerate(vit.blocks):
        pruned = config.pooled_queries_only and index == config.depth - 1
        x = _block(
            vit, block, x, f"blocks.{index}", observe, config.pooled_prefix if pruned else None
        )
    if vit.norm is not None:
        x = normalize(x, vit.norm, config.norm_kind)
    pooled = pool(config, x)
    if vit.pooled_norm is not None:
        parts = pooled.reshape(len(pooled), -1, config.dim)
        pooled = normalize(parts, vit.pooled_norm, config.norm_kind).reshape(pooled.shape)
    for index, layer in enumerate(vit.head_hidden):
        hidden = _linear(layer, pooled, f"head_hidden.{index}", observe)
        pooled = activate(hidden, config.head_activation)
    return _linear(vit.head, pooled, "head", observe)


def embed(vit: ViT, images: npt.NDArray[Any], observe: Observer | None = None) -> Array:
    """The tokens before the first block, shape ``(N, tokens, dim)``."""
    config = vit.config
    raw = images.astype(np.float32, copy=False)
    pixels = raw if config.raw_pixels else vit.preprocessing.normalize(raw)
    patches = patchify(pixels, config.patch_size)
    projected = _linear(vit.patch, patches, "patch", observe) + vit.positions
    prefix = np.broadcast_to(vit.prefix, (len(projected), *vit.prefix.shape))
    x = np.concatenate([prefix, projected], axis=1)
    return x if vit.input_norm is None else normalize(x, vit.input_norm, config.norm_kind)


def patchify(pixels: Array, patch_size: tuple[int, int]) -> Array:
    """Cuts ``(N, H, W, C)`` into ``(N, patches, patch_height * patch_width * C)``."""
    n, height, width, channels = pixels.shape
    rows, columns = height // patch_size[0], width // patch_size[1]
    grid = pixels.reshape(n, rows, patch_size[0], columns, patch_size[1], channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)


def pool(config: ViTConfig, x: Array) -> Array:
    """The vector that the head reads, ``(N, pooled_dim)``, from tokens ``(N, tokens, dim)``."""
    match config.pooling:
        case Pooling.CLASS:
            return x[:, 0]
        case Pooling.DISTILLED:
            return x[:, :2].reshape(len(x), -1)
        case Pooling.MEAN:
            return _mean(x[:, config.prefix_tokens :], 1)
        case Pooling.CLASS_AND_MEAN:
            return np.concatenate([x[:, 0], _mean(x[:, config.prefix_tokens :], 1)], axis=1)
        case Pooling.FLATTEN:
            return x.reshape(len(x), -1)


def normalize(x: Array, norm: Norm, kind: NormKind = NormKind.LAYER) -> Array:
    """LayerNorm (arXiv:1607.06450) or RMSNorm (arXiv:1910.07467) over the last axis."""
    return _normalized(x, replace(norm, kind=kind))


def _mean(x: Array, axis: int, *, keep: bool = False) -> Array:
    mean: Array = x.mean(axis=axis, keepdims=keep)
    return mean


def _linear(layer: Linear, x: Array, name: str, observe: Observer | None) -> Array:
    replacement = None if observe is None else observe(name, x)
    return (x if replacement is None else replacement) @ layer.weight + layer.bias


def _block(
    vit: ViT, block: Block, x: Array, name: str, observe: Observer | None, queries: int | None
) -> Array:
    """One block; with ``queries`` it returns only that many leading tokens."""
    kind = vit.config.norm_kind
    if vit.config.norm_position is NormPosition.PRE:
        normed = normalize(x, block.norm1, kind)
        x = x[:, :queries] + _attention(vit.config, block, normed, name, observe, queries)
        return x + _mlp(vit.config, block, normalize(x, block.norm2, kind), name, observe)
    x = x[:, :queries] + _attention(vit.config, block, x, name, observe, queries)
    x = normalize(x, block.norm1, kind)
    return normalize(x + _mlp(vit.config, block, x, name, observe), block.norm2, kind)


def _attention(
    config: ViTConfig,
    block: Block,
    x: Array,
    name: str,
    observe: Observer | None,
    queries: int | None,
) -> Array:
    q = _heads(config, _linear(block.q, x[:, :queries], f"{name}.q", observe))
    k = _heads(config, _linear(block.k, x, f"{name}.k", observe))
    v = _heads(config, _linear(block.v, x, f"{name}.v", observe))
    if block.q_norm is not None:
        q = normalize(q, block.q_norm)
    if block.k_norm is not None:
        k = normalize(k, block.k_norm)
    scores = (q @ k.swapaxes(-1, -2)) * np.float32(config.attention_scale)
    mixed = (softmax(scores) @ v).swapaxes(1, 2)
    return _linear(block.out, mixed.reshape(*mixed.shape[:2], -1), f"{name}.out", observe)


def _heads(config: ViTConfig, x: Array) -> Array:
    """``(N, tokens, heads * head_dim)`` to ``(N, heads, tokens, head_dim)``."""
    return x.reshape(*x.shape[:2], config.heads, config.head_dim).swapaxes(1, 2)


def _mlp(config: ViTConfig, block: Block, x: Array, name: str, observe: Observer | None) -> Array:
    hidden = activate(_linear(block.fc1, x, f"{name}.fc1", observe), config.activation)
    return _linear(block.fc2, hidden, f"{name}.fc2", observe)
