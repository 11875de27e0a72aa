"""The vision transformer that a Keras user would write: a functional model of stock layers.

What the stock routes are given. Input normalisation is folded into the patch projection already, so
that no contender pays for it and all take raw pixels 0..255.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from plain_parameters import parameters_of

from vitedge.elements.plain_vit import Block, PlainViT
from vitedge.network.network import Network
from vitedge.network.operators import Linear, Norm
from vitedge.rewrite import apply_rewrites, rewrites


def stock_keras_model(network: Network) -> keras.Model:
    """A stock Keras model with the weights of a ViT; batch 1, static shapes.

    Args:
        network: A pre-norm ViT with LayerNorm, exact GELU, one class token and one linear head.

    Raises:
        ValueError: The network is another.
    """
    others = [rewrite.name for rewrite in rewrites() if rewrite.name != "fold-input-normalization"]
    folded = parameters_of(apply_rewrites(network, without=others)[0])
    model = _functional(folded)
    _set_weights(model, folded)
    return model


@keras.saving.register_keras_serializable("benchmarks")
class LearnedTokens(layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Puts learned tokens before the others, and adds positions to all.

    Args:
        count: The count of learned tokens.
        options: Keras's own.
    """

    def __init__(self, count: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to make it again."""
        return {**super().get_config(), "count": self.count}

    def build(self, shape: tuple[int, ...]) -> None:
        """Creates the tokens and the positions."""
        _, patches, dim = shape
        self.token = self.add_weight(shape=(1, self.count, dim), name="token")
        self.positions = self.add_weight(shape=(1, patches + self.count, dim), name="positions")

    def call(self, x: Any) -> Any:
        """``(N, patches, dim)`` to ``(N, patches + count, dim)``."""
        shape = (keras.ops.shape(x)[0], self.count, x.shape[-1])
        token = keras.ops.broadcast_to(self.token, shape)
        return keras.ops.concatenate([token, x], axis=1) + self.positions


def _functional(vit: PlainViT) -> keras.Model:
    config = vit.config
    image = keras.Input((*config.image_size, config.channels), batch_size=1, name="pixels")
    x = layers.Conv2D(config.dim, config.patch_size, config.patch_size, name="patch")(image)
    x = layers.Reshape((config.patches, config.dim))(x)
    x = LearnedTokens(config.prefix_tokens, name="tokens")(x)
    for index, block in enumerate(vit.blocks):
        x = _block(x, block, vit, f"block{index}")
    x = layers.LayerNormalization(epsilon=vit.norm.eps, name="norm")(x)
    x = layers.Dense(config.classes, name="head")(x[:, 0])
    return keras.Model(image, x)


def _block(x: Any, block: Block, vit: PlainViT, name: str) -> Any:
    config = vit.config
    y = layers.LayerNormalization(epsilon=block.norm1.eps, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(config.heads, config.head_dim, name=f"{name}_attention")
    x = layers.Add()([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=block.norm2.eps, name=f"{name}_norm2")(x)
    y = layers.Dense(config.mlp_dim, activation="gelu", name=f"{name}_fc1")(y)
    return layers.Add()([x, layers.Dense(config.dim, name=f"{name}_fc2")(y)])


def _set_weights(model: keras.Model, vit: PlainViT) -> None:
    config = vit.config

    def linear(name: str, layer: Linear) -> None:
        model.get_layer(name).set_weights([layer.weight, layer.bias])

    def norm(name: str, values: Norm) -> None:
        model.get_layer(name).set_weights([values.gamma, values.beta])

    kernel = vit.patch.weight.reshape(*config.patch_size, config.channels, config.dim)
    model.get_layer("patch").set_weights([kernel, vit.patch.bias])
    # The canonical prefix has its position added already.
    positions = np.concatenate([np.zeros_like(vit.prefix), vit.positions])
    model.get_layer("tokens").set_weights([vit.prefix[None], positions[None]])
    for index, block in enumerate(vit.blocks):
        name = f"block{index}"
        norm(f"{name}_norm1", block.norm1)
        norm(f"{name}_norm2", block.norm2)
        linear(f"{name}_fc1", block.fc1)
        linear(f"{name}_fc2", block.fc2)
        model.get_layer(f"{name}_attention").set_weights(_attention_weights(vit, block))
    norm("norm", vit.norm)
    linear("head", vit.head)


def _attention_weights(vit: PlainViT, block: Block) -> list[Any]:
    """As MultiHeadAttention orders and shapes them; its scale is 1/sqrt(head_dim)."""
    heads, width = vit.config.heads, vit.config.head_dim
    rescale = np.float32(vit.config.attention_scale * width**0.5)
    weights = []
    for layer, factor in ((block.q, rescale), (block.k, np.float32(1)), (block.v, np.float32(1))):
        weights.append(layer.weight.reshape(-1, heads, width) * factor)
        weights.append(layer.bias.reshape(heads, width) * factor)
    return [*weights, block.out.weight.reshape(heads, width, -1), block.out.bias]
