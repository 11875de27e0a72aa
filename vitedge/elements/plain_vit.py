"""The parameters of a plain vision transformer: what importers by name and presets fill in.

``vision_transformer.network_of`` makes the network of it (Dosovitskiy et al., arXiv:2010.11929, and
its descendants). Normalising moves of a format are made on the way in: LayerScale is multiplied
into the projection before it, a class token and its position are one constant, missing biases are
zeros.

A linear layer computes ``x @ weight + bias``; images are raw pixels 0..255 in NHWC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.operators import Array, Linear, Norm


@dataclass(frozen=True)
class ViTConfig:
    """The sizes and choices of a vision transformer.

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
        pooling: The tokens that the head reads.
        activation: Non-linearity of the MLPs.
        norm_position: Before each sublayer, or after each sum.
        norm_kind: LayerNorm or RMSNorm, for all norms but those of queries and keys.
        attention_scale: Factor on the query-key products before the softmax.
        head_activation: Non-linearity after each hidden layer of the head.
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
        """The number of leading tokens that the head reads one by one."""
        return {Pooling.CLASS: 1, Pooling.DISTILLED: 2, Pooling.CLASS_AND_MEAN: 1}.get(
            self.pooling, 0
        )

    @property
    def pooled_dim(self) -> int:
        """Width of the vector that the head reads."""
        vectors = {Pooling.FLATTEN: self.tokens, Pooling.DISTILLED: 2, Pooling.CLASS_AND_MEAN: 2}
        return self.dim * vectors.get(self.pooling, 1)


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
class PlainViT:
    """A whole plain vision transformer.

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
        preprocessing: The steps from an image to pixels; mean and std are applied before ``patch``
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

    def map_blocks(self, change: Callable[[Block], Block]) -> PlainViT:
        """The model with each block replaced by ``change(block)``."""
        return replace(self, blocks=tuple(change(block) for block in self.blocks))


def expected_shapes(config: ViTConfig, hidden: list[int]) -> dict[str, tuple[int, ...]]:
    """Shape of every array that a plain ViT of this config may have."""
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
