"""The tutorial ViT, written anew from its description, for either generation of Keras.

``../shared/reference`` has its text: the attributes that weights are filed under, the order of the
layers, the fused Dense, the fixed batch size and the Lambda are the tutorial's; the code is not.
TensorFlow Addons, whose GELU it takes, has no release for current TensorFlow: the same formula is
taken from TensorFlow. Its two token variables have no names, which current TensorFlow cannot save
as a SavedModel; here they are named after their attributes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from reference.golden import Size


def tutorial_model(keras: Any, size: Size, batch_size: int) -> Any:
    """Builds the model with ``keras`` being Keras 3 or ``tf_keras``."""
    layers = keras.layers

    class Gelu(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return tf.nn.gelu(inputs, approximate=True)

    class ClassToken(layers.Layer):
        def __init__(self, batch_size: int, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.batch_size = batch_size

        def build(self, shape: Any) -> None:
            self.cls_w = self.add_weight(shape=(1, 1, shape[-1]), initializer="zeros", name="cls_w")
            super().build(shape)

        def call(self, inputs: Any) -> Any:
            width = inputs.shape[-1]
            token = tf.broadcast_to(tf.convert_to_tensor(self.cls_w), (self.batch_size, 1, width))
            return tf.concat([token, inputs], axis=1)

    class PositionEmbedding(layers.Layer):
        def build(self, shape: Any) -> None:
            shape = (1, shape[1], shape[2])
            self.pos_w = self.add_weight(shape=shape, initializer="zeros", name="pos_w")
            super().build(shape)

        def call(self, inputs: Any) -> Any:
            return inputs + self.pos_w

    class MultiHeadSelfAttention(layers.Layer):
        def __init__(self, num_features: int, num_heads: int) -> None:
            super().__init__()
            self.heads, self.width = num_heads, num_features // num_heads
            self.qkv = layers.Dense(3 * num_features)
            self.dense = layers.Dense(num_features)
            self.dropout = layers.Dropout(0.1)

        def call(self, inputs: Any, training: Any = None) -> Any:
            tokens = inputs.shape[1]
            stacked = tf.reshape(self.qkv(inputs), (-1, tokens, 3, self.heads, self.width))
            q, k, v = tf.unstack(tf.transpose(stacked, (2, 0, 3, 1, 4)))
            scores = tf.matmul(q, k, transpose_b=True) / tf.sqrt(float(self.width))
            mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))
            return self.dense(tf.reshape(mixed, (-1, tokens, self.heads * self.width)))

    class TransformerBlock(layers.Layer):
        def __init__(self, num_features: int, num_heads: int, mlp_dim: int) -> None:
            super().__init__()
            self.layerNorm1 = layers.LayerNormalization(epsilon=1e-6)
            self.multiHeadSelfAttention = MultiHeadSelfAttention(num_features, num_heads)
            self.layerNorm2 = layers.LayerNormalization(epsilon=1e-6)
            parts = [layers.Dense(mlp_dim), Gelu(), layers.Dropout(0.1), layers.Dense(num_features)]
            self.MLP = keras.Sequential(parts)

        def call(self, inputs: Any, training: Any = None) -> Any:
            x = inputs + self.multiHeadSelfAttention(self.layerNorm1(inputs))
            return x + self.MLP(self.layerNorm2(x))

    class VisionTransformer(keras.Model):
        def __init__(
            self,
            batch_size: int,
            input_shape: list[int],
            patch_size: int,
            num_layers: int,
            num_features: int,
            num_heads: int,
            mlp_dim: int,
            num_classes: int,
        ) -> None:
            super().__init__()
            patches = (input_shape[0] // patch_size) * (input_shape[1] // patch_size)
            self.conv = layers.Conv2D(num_features, kernel_size=patch_size, strides=patch_size)
            self.reshape = layers.Reshape((patches, num_features))
            self.classToken = ClassToken(batch_size)
            self.positionEmbedding = PositionEmbedding()
            blocks = [TransformerBlock(num_features, num_heads, mlp_dim) for _ in range(num_layers)]
            self.transformerBlocks = keras.Sequential(blocks)
            self.layerNormalization = layers.LayerNormalization(epsilon=1e-6)
            self.extractClassToken = layers.Lambda(lambda x: x[:, 0, :])
            self.dense = layers.Dense(num_classes)

        def call(self, inputs: Any, training: Any = None) -> Any:
            x = self.positionEmbedding(self.classToken(self.reshape(self.conv(inputs))))
            x = self.layerNormalization(self.transformerBlocks(x))
            return self.dense(self.extractClassToken(x))

    return VisionTransformer(
        batch_size=batch_size,
        input_shape=[size.image, size.image],
        patch_size=size.patch,
        num_layers=size.depth,
        num_features=size.dim,
        num_heads=size.heads,
        mlp_dim=size.mlp_dim,
        num_classes=size.classes,
    )
