"""The canonical ViT as a trainable Keras 3 model, and back.

The layers are registered, so ``keras.saving.load_model`` reads a saved model after nothing but
``import vitedge`` (see ``vitedge/__init__.py``). The model takes raw pixels 0..255 and carries its
preprocessing and labels in its config: one file is all there is to keep.

Only those who have Keras import this module; it needs no other engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import Block, ViT
from vitedge.vit_assembly import config_from_dict, vit_from_arrays

_PACKAGE = "vitedge"

Thinning: TypeAlias = Callable[[Any], Any]
"""What a residual branch passes before it is added: stochastic depth drops some of its images."""

Entering: TypeAlias = Callable[[str, Any], Any]
"""What the input of a linear layer, given by name, passes before the layer: rounding."""

# Keras stores weights under attribute names, in alphabetical order of the attributes, and what it
# reaches through its own `layers` first loses its name. Names before "layers" keep theirs, so
# importers/canonical.py can read the file without Keras.
_NORM_ATTRIBUTES = {"input_norm": "input_norm", "norm": "final_norm", "pooled_norm": "head_norm"}


@keras.saving.register_keras_serializable(_PACKAGE)
class TokenNorm(keras.layers.Layer):  # type: ignore[misc]  # keras is untyped
    """LayerNorm or RMSNorm over the last axis, as ``vitedge.vit.normalize`` computes it."""

    def __init__(self, eps: float, kind: str = "layer", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.eps, self.kind = eps, kind

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates gamma and beta."""
        width = (input_shape[-1],)
        self.gamma = self.add_weight(shape=width, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=width, initializer="zeros", name="beta")

    def call(self, x: Any) -> Any:
        """Normalises."""
        if self.kind == NormKind.LAYER:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        scale = ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + self.eps)
        return x * scale * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "eps": self.eps, "kind": self.kind}


@keras.saving.register_keras_serializable(_PACKAGE)
class TokenEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """Patches, projected, with positions added, behind the prefix tokens."""

    def __init__(
        self, patch_size: Sequence[int], dim: int, prefix_tokens: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size, self.dim, self.prefix_tokens = tuple(patch_size), dim, prefix_tokens
        self.projection = keras.layers.Dense(dim, name="projection")

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Creates the projection, the prefix tokens and the positions."""
        _, height, width, channels = input_shape
        rows, columns = height // self.patch_size[0], width // self.patch_size[1]
        self.grid, self.channels = (rows, columns), channels
        self.projection.build((None, None, self.patch_size[0] * self.patch_size[1] * channels))
        small = keras.initializers.TruncatedNormal(stddev=0.02)
        self.prefix = self.add_weight(
            shape=(self.prefix_tokens, self.dim), initializer=small, name="prefix"
        )
        self.positions = self.add_weight(
            shape=(rows * columns, self.dim), initializer=small, name="positions"
        )

    def call(self, pixels: Any) -> Any:
        """Normalised pixels ``(N, H, W, C)`` to tokens ``(N, tokens, dim)``."""
        (rows, columns), (height, width) = self.grid, self.patch_size
        x = ops.reshape(pixels, (-1, rows, height, columns, width, self.channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, height * width * self.channels))
        x = ops.cast(self.projection(x), self.compute_dtype) + self.positions
        if not self.prefix_tokens:
            return x
        shape = (ops.shape(x)[0], self.prefix_tokens, self.dim)
        prefix = ops.broadcast_to(ops.cast(self.prefix, x.dtype), shape)
        return ops.concatenate([prefix, x], axis=1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "dim": self.dim,
            "prefix_tokens": self.prefix_tokens,
        }


@keras.saving.register_keras_serializable(_PACKAGE)
class TransformerBlock(keras.layers.Layer):  # type: ignore[misc]
    """Attention and MLP with residual connections; see ``vitedge.vit.Block``."""

    def __init__(
        self, vit_config: Mapping[str, Any], eps: Mapping[str, float], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vit_config, self.eps = dict(vit_config), dict(eps)
        config = config_from_dict(self.vit_config)
        self.config = config
        for name in ("q", "k", "v"):
            setattr(self, name, keras.layers.Dense(config.attention_dim, name=name))
        self.out = keras.layers.Dense(config.dim, name="out")
        self.fc1 = keras.layers.Dense(config.mlp_dim, name="fc1")
        self.fc2 = keras.layers.Dense(config.dim, name="fc2")
        kinds = {"norm1": config.norm_kind, "norm2": config.norm_kind}
        for name, value in self.eps.items():
            kind = str(kinds.get(name, NormKind.LAYER))
            setattr(self, name, TokenNorm(value, kind, name=name))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights of all parts."""
        config = self.config
        tokens = (None, None, config.dim)
        for name in ("q", "k", "v", "fc1"):
            getattr(self, name).build(tokens)
        self.out.build((None, None, config.attention_dim))
        self.fc2.build((None, None, config.mlp_dim))
        for name in self.eps:
            width = config.dim if name in ("norm1", "norm2") else config.head_dim
            getattr(self, name).build((None, None, width))

    def call(self, x: Any, thin: Thinning | None = None, entering: Entering | None = None) -> Any:
        """Tokens to tokens, ``(N, tokens, dim)``; ``thin`` sees each branch before it is added."""
        thin, entering = thin or _whole, entering or _unchanged
        if self.config.norm_position == NormPosition.PRE:
            x = x + thin(self._attention(self.norm1(x), entering))
            return x + thin(self._mlp(self.norm2(x), entering))
        x = self.norm1(x + thin(self._attention(x, entering)))
        return self.norm2(x + thin(self._mlp(x, entering)))

    # Each product is in the dtype of its Dense layer, and all between them in the block's own,
    # which makes a difference only after `compute_products_in`.

    def _attention(self, x: Any, entering: Entering) -> Any:
        q = self._heads(self.q(entering("q", x)))
        k = self._heads(self.k(entering("k", x)))
        v = self._heads(self.v(entering("v", x)))
        if "q_norm" in self.eps:
            q = ops.cast(self.q_norm(q), v.dtype)
        if "k_norm" in self.eps:
            k = ops.cast(self.k_norm(k), v.dtype)
        scores = ops.cast(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), self.compute_dtype)
        shares = ops.cast(ops.softmax(scores * self.config.attention_scale), v.dtype)
        mixed = ops.transpose(ops.matmul(shares, v), (0, 2, 1, 3))
        joined = ops.reshape(mixed, (-1, self.config.tokens, self.config.attention_dim))
        return ops.cast(self.out(entering("out", joined)), self.compute_dtype)

    def _heads(self, x: Any) -> Any:
        shape = (-1, self.config.tokens, self.config.heads, self.config.head_dim)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def _mlp(self, x: Any, entering: Entering) -> Any:
        hidden = ops.cast(self.fc1(entering("fc1", x)), self.compute_dtype)
        hidden = entering("fc2", _activate(hidden, self.config.activation))
        return ops.cast(self.fc2(hidden), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "vit_config": self.vit_config, "eps": self.eps}


@keras.saving.register_keras_serializable(_PACKAGE)
class VisionTransformer(keras.Model):  # type: ignore[misc]
    """A Vision Transformer on raw pixels 0..255, ``(N, H, W, C)`` to logits ``(N, classes)``.

    Args:
        vit_config: ``dataclasses.asdict`` of a ``ViTConfig``.
        preprocessing: ``Preprocessing.to_dict()``; its mean and std are the first layer.
        labels: One name per class, or empty.
        eps: The epsilon of every norm that is present, by its canonical name.
        head_hidden: Widths of the hidden layers of the head.
        origin: How the weights were imported, in words; empty when they were not.
    """

    built: bool

    def __init__(
        self,
        vit_config: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        labels: Sequence[str],
        eps: Mapping[str, float],
        head_hidden: Sequence[int] = (),
        origin: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.origin = origin
        self.vit_config, self.eps = dict(vit_config), dict(eps)
        self.preprocessing, self.labels = dict(preprocessing), list(labels)
        self.hidden_widths = list(head_hidden)
        config = self.config = config_from_dict(self.vit_config)
        self.embedding = TokenEmbedding(
            config.patch_size, config.dim, config.prefix_tokens, name="embedding"
        )
        self.blocks = [
            TransformerBlock(self.vit_config, _eps_below(self.eps, f"blocks.{index}."))
            for index in range(config.depth)
        ]
        for name, attribute in _NORM_ATTRIBUTES.items():
            if name in self.eps:
                norm = TokenNorm(self.eps[name], str(config.norm_kind), name=name)
                setattr(self, attribute, norm)
        self.head_hidden = [keras.layers.Dense(width) for width in self.hidden_widths]
        self.head = keras.layers.Dense(config.classes, name="head")

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Creates all weights; the shape is known from the config."""
        if self.built:
            return
        config = self.config
        self.embedding.build((None, *config.image_size, config.channels))
        tokens = (None, config.tokens, config.dim)
        for block in self.blocks:
            block.build(tokens)
        for name, attribute in _NORM_ATTRIBUTES.items():
            if name in self.eps:
                getattr(self, attribute).build(tokens)
        width = config.pooled_dim
        for layer in (*self.head_hidden, self.head):
            layer.build((None, width))
            width = layer.units
        self.built = True

    def call(self, pixels: Any) -> Any:
        """Raw pixels to logits."""
        return self.classify(self.features(pixels))

    def features(
        self, pixels: Any, thin: Sequence[Thinning] = (), entering: Sequence[Entering] = ()
    ) -> Any:
        """The vector that the head reads, ``(N, pooled_dim)``.

        Args:
            pixels: Raw pixels ``(N, H, W, C)``.
            thin: In training, what each block's branches pass before they are added.
            entering: What the inputs of each block's linear layers pass.
        """
        return self.features_after(self.tokens(pixels, 0), 0, thin, entering)

    def tokens(self, pixels: Any, blocks: int) -> Any:
        """What the first ``blocks`` blocks make of raw pixels, ``(N, tokens, dim)``."""
        config = self.config
        x = ops.cast(pixels, self.compute_dtype)
        if not config.raw_pixels:
            mean = ops.convert_to_tensor(self.preprocessing["mean"], self.compute_dtype)
            std = ops.convert_to_tensor(self.preprocessing["std"], self.compute_dtype)
            x = (x / 255.0 - mean) / std
        x = self.embedding(x)
        if "input_norm" in self.eps:
            x = self.input_norm(x)
        for block in self.blocks[:blocks]:
            x = block(x)
        return x

    def features_after(
        self,
        tokens: Any,
        blocks: int,
        thin: Sequence[Thinning] = (),
        entering: Sequence[Entering] = (),
    ) -> Any:
        """The same as ``features``, of what ``tokens`` returned for as many blocks."""
        outputs = self.outputs_after(tokens, blocks, thin, entering)
        return self.pooled(outputs[-1] if outputs else tokens)

    def outputs_after(
        self,
        tokens: Any,
        blocks: int,
        thin: Sequence[Thinning] = (),
        entering: Sequence[Entering] = (),
    ) -> list[Any]:
        """What each further block makes of what ``tokens`` returned for as many blocks."""
        outputs, x = [], tokens
        for index in range(blocks, self.config.depth):
            x = self.blocks[index](
                x,
                thin=thin[index] if thin else None,
                entering=entering[index] if entering else None,
            )
            outputs.append(x)
        return outputs

    def pooled(self, tokens: Any) -> Any:
        """The vector that the head reads, ``(N, pooled_dim)``, of the last block's output."""
        config, x = self.config, tokens
        if "norm" in self.eps:
            x = self.final_norm(x)
        pooled = self._pool(x)
        if "pooled_norm" in self.eps:
            parts = ops.reshape(pooled, (-1, config.pooled_dim // config.dim, config.dim))
            pooled = ops.reshape(self.head_norm(parts), (-1, config.pooled_dim))
        return pooled

    def classify(self, features: Any) -> Any:
        """The head alone: features ``(N, pooled_dim)`` to logits."""
        for layer in self.head_hidden:
            features = _activate(layer(features), self.config.head_activation)
        return self.head(features)

    def classify_each(self, features: Any) -> tuple[Any, Any]:
        """The logits of the class token and of the distillation token; their mean is the model's.

        Args:
            features: Of a model that pools both, ``(N, 2 * dim)``.
        """
        halves = ops.split(features, 2, axis=-1)
        kernels = ops.split(ops.convert_to_tensor(self.head.kernel), 2, axis=0)
        bias = ops.convert_to_tensor(self.head.bias)
        of_class, of_teacher = (
            2 * ops.matmul(half, ops.cast(kernel, half.dtype)) + ops.cast(bias, half.dtype)
            for half, kernel in zip(halves, kernels, strict=True)
        )
        return of_class, of_teacher

    def _pool(self, x: Any) -> Any:
        config = self.config
        match config.pooling:
            case Pooling.CLASS:
                return x[:, 0]
            case Pooling.DISTILLED:
                return ops.reshape(x[:, :2], (-1, 2 * config.dim))
            case Pooling.MEAN:
                return ops.mean(x[:, config.prefix_tokens :], axis=1)
            case Pooling.CLASS_AND_MEAN:
                mean = ops.mean(x[:, config.prefix_tokens :], axis=1)
                return ops.concatenate([x[:, 0], mean], axis=1)
            case Pooling.FLATTEN:
                return ops.reshape(x, (-1, config.pooled_dim))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "vit_config": self.vit_config,
            "preprocessing": self.preprocessing,
            "labels": self.labels,
            "eps": self.eps,
            "head_hidden": self.hidden_widths,
            "origin": self.origin,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> VisionTransformer:
        """Rebuilds the model with fresh weights."""
        model = cls(**config)
        model.build()
        return model


def _whole(branch: Any) -> Any:
    return branch


def _unchanged(name: str, x: Any) -> Any:
    return x


def _activate(x: Any, activation: Activation) -> Any:
    match activation:
        case Activation.GELU:
            return ops.gelu(x, approximate=False)
        case Activation.GELU_TANH:
            return ops.gelu(x, approximate=True)
        case Activation.QUICK_GELU:
            return x * ops.sigmoid(1.702 * x)
        case Activation.RELU:
            return ops.relu(x)
        case Activation.SILU:
            return ops.silu(x)
        case Activation.TANH:
            return ops.tanh(x)


def _eps_below(eps: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): eps[name] for name in eps if name.startswith(prefix)}


# --- to and from the canonical form -------------------------------------------------------------


def to_keras(vit: ViT, *, origin: str = "") -> VisionTransformer:
    """Builds the Keras model of a ViT, with its weights.

    Args:
        vit: The model.
        origin: How it was imported, in words, for its config.
    """
    model = VisionTransformer(
        vit_config=asdict(vit.config),
        preprocessing=vit.preprocessing.to_dict(),
        labels=vit.labels,
        eps={name: norm.eps for name, norm in vit.named_norms()},
        head_hidden=[layer.weight.shape[1] for layer in vit.head_hidden],
        origin=origin,
    )
    model.build()
    variables = _variables(model)
    for name, array in vit.named_arrays():
        variables[name].assign(array)
    return model


def compute_products_in(model: VisionTransformer, dtype: str) -> None:
    """Lets the matrix products of patches and blocks compute in another dtype.

    Weights, norms, softmax, activations, the residual stream and the head stay float32.

    Args:
        model: Changed in place; a saved model does not keep it, as ``from_keras`` does not.
        dtype: ``bfloat16``, ``float16``, or ``float32`` as at first.
    """
    policy = str(dtype) if dtype == "float32" else f"mixed_{dtype}"  # Keras takes no StrEnum
    layers = [getattr(block, name) for block in model.blocks for name in Block.LINEARS]
    for layer in (model.embedding.projection, *layers):
        layer.dtype_policy = policy


def from_keras(model: VisionTransformer) -> ViT:
    """Reads the canonical form of one of our Keras models."""
    return vit_from_arrays(
        model.get_config(),
        {name: np.asarray(variable, np.float32) for name, variable in _variables(model).items()},
    )


def _variables(model: VisionTransformer) -> dict[str, Any]:
    """The model's variables by canonical name."""
    embedding = model.embedding
    found = {"prefix": embedding.prefix, "positions": embedding.positions}
    layers = {"patch": embedding.projection, "head": model.head}
    layers |= {f"head_hidden.{index}": layer for index, layer in enumerate(model.head_hidden)}
    norms = {
        name: getattr(model, attribute)
        for name, attribute in _NORM_ATTRIBUTES.items()
        if name in model.eps
    }
    for index, block in enumerate(model.blocks):
        layers |= {f"blocks.{index}.{name}": getattr(block, name) for name in Block.LINEARS}
        norms |= {f"blocks.{index}.{name}": getattr(block, name) for name in block.eps}
    for name, layer in layers.items():
        found |= {f"{name}.weight": layer.kernel, f"{name}.bias": layer.bias}
    for name, norm in norms.items():
        found |= {f"{name}.gamma": norm.gamma, f"{name}.beta": norm.beta}
    return found
