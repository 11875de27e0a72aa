"""One vision transformer, written by hand in Keras and TensorFlow the many ways people do it."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Spelling:
    """Sizes, choices, and how the same thing is spelled."""

    image_size: tuple[int, int] = (32, 32)
    patch_size: tuple[int, int] = (8, 8)
    channels: int = 3
    dim: int = 24
    depth: int = 2
    heads: int = 3
    head_dim: int = 8
    mlp_dim: int = 40
    classes: int = 7
    prefix_tokens: int = 1
    prefix_last: bool = False
    pooling: str = "class"
    norm_position: str = "pre"
    input_norm: bool = False
    final_norm: bool = True
    pooled_norm: bool = False
    qk_norm: bool = False
    layer_scale: bool = False
    head_hidden: tuple[int, ...] = ()
    activation: str = "gelu"
    norm: str = "moments"
    eps: float = 1e-6
    attention: str = "separate"
    patches: str = "convolution"
    rescaling: str = "none"
    channels_first: bool = False
    softmax: bool = False
    batch: int | None = None
    seed: int = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        size = self.image_size
        return (self.channels, *size) if self.channels_first else (*size, self.channels)


class SpelledViT(keras.layers.Layer):
    """A layer from images to logits, with random weights of trained sizes."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling
        self._made: dict[str, keras.Variable] = {}
        self._rng = np.random.default_rng(spelling.seed)
        self.build((spelling.batch or 1, *spelling.image_shape))

    def build(self, shape: tuple[int, ...]) -> None:
        self.call(tf.zeros(shape))  # makes the variables
        self.built = True

    def _weight(self, name: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> tf.Tensor:
        if name not in self._made:
            values = self._rng.standard_normal(shape) * scale + shift
            self._made[name] = self.add_weight(shape=shape, name=name.replace(".", "_"))
            self._made[name].assign(values.astype(np.float32))
        return tf.convert_to_tensor(self._made[name])

    def call(self, images: tf.Tensor) -> tf.Tensor:
        s = self.spelling
        x = self._tokens(self._rescaled(images))
        if s.input_norm:
            x = self._norm(x, "input_norm")
        for index in range(s.depth):
            name = f"block{index}"
            if s.norm_position == "pre":
                x = x + self._scaled(self._attention(self._norm(x, f"{name}.norm1"), name), name)
                x = x + self._scaled(self._mlp(self._norm(x, f"{name}.norm2"), name), name)
            else:
                x = self._norm(x + self._attention(x, name), f"{name}.norm1")
                x = self._norm(x + self._mlp(x, name), f"{name}.norm2")
        if s.final_norm:
            x = self._norm(x, "norm")
        x = self._pooled(x)
        for index, width in enumerate(s.head_hidden):
            x = tf.tanh(self._dense(x, f"hidden{index}", width))
        logits = self._dense(x, "head", s.classes)
        return tf.nn.softmax(logits) if s.softmax else logits

    # --- image to tokens ------------------------------------------------------------------------

    def _rescaled(self, x: tf.Tensor) -> tf.Tensor:
        s = self.spelling
        if s.channels_first and s.patches != "convolution_nchw":
            x = tf.transpose(x, (0, 2, 3, 1))
        mean = np.array([0.485, 0.456, 0.406], np.float32)[: s.channels]
        std = np.array([0.229, 0.224, 0.225], np.float32)[: s.channels]
        if s.rescaling == "unit":
            return x / 255.0
        if s.rescaling == "symmetric":
            return x * (1 / 127.5) - 1.0
        if s.rescaling == "imagenet":
            return (x / 255.0 - mean) / std
        return x

    def _tokens(self, x: tf.Tensor) -> tf.Tensor:
        s = self.spelling
        (height, width), (high, wide) = s.image_size, s.patch_size
        rows, columns = height // high, width // wide
        inputs = high * wide * s.channels
        n = tf.shape(x)[0] if s.batch is None else s.batch
        if s.patches == "convolution":
            kernel = self._weight("patch", high, wide, s.channels, s.dim, scale=inputs**-0.5)
            x = tf.nn.conv2d(x, kernel, (high, wide), "VALID")
            x = x + self._weight("patch.bias", s.dim, scale=0.1)
            x = tf.reshape(x, (n, rows * columns, s.dim))
        elif s.patches == "extract":
            x = tf.image.extract_patches(
                x, (1, high, wide, 1), (1, high, wide, 1), (1, 1, 1, 1), "VALID"
            )
            x = self._dense(tf.reshape(x, (n, -1, inputs)), "patch", s.dim)
        elif s.patches == "reshape":
            x = tf.reshape(x, (-1, rows, high, columns, wide, s.channels))
            x = tf.reshape(tf.transpose(x, (0, 1, 3, 5, 2, 4)), (-1, rows * columns, inputs))
            x = self._dense(x, "patch", s.dim)
        else:
            raise ValueError(s.patches)
        if s.prefix_tokens:
            prefix = self._weight("prefix", 1, s.prefix_tokens, s.dim)
            prefix = tf.tile(prefix, (n, 1, 1))
            x = tf.concat([x, prefix] if s.prefix_last else [prefix, x], axis=1)
        return x + self._weight("positions", 1, rows * columns + s.prefix_tokens, s.dim, scale=0.5)

    # --- blocks ---------------------------------------------------------------------------------

    def _dense(self, x: tf.Tensor, name: str, width: int) -> tf.Tensor:
        inputs = x.shape[-1]
        weight = self._weight(name, inputs, width, scale=inputs**-0.5)
        return tf.tensordot(x, weight, 1) + self._weight(f"{name}.bias", width, scale=0.1)

    def _scaled(self, x: tf.Tensor, name: str) -> tf.Tensor:
        if not self.spelling.layer_scale:
            return x
        return x * self._weight(f"{name}.scale", self.spelling.dim, scale=0.2, shift=0.5)

    def _norm(self, x: tf.Tensor, name: str, kind: str | None = None) -> tf.Tensor:
        s = self.spelling
        width = x.shape[-1]
        gamma = self._weight(f"{name}.gamma", width, scale=0.2, shift=1.0)
        beta = self._weight(f"{name}.beta", width, scale=0.1)
        match kind or s.norm:
            case "moments":
                mean, variance = tf.nn.moments(x, -1, keepdims=True)
                return tf.nn.batch_normalization(x, mean, variance, beta, gamma, s.eps)
            case "centred":
                d = x - tf.reduce_mean(x, -1, keepdims=True)
                variance = tf.reduce_mean(d * d, -1, keepdims=True)
                return d * tf.math.rsqrt(variance + s.eps) * gamma + beta
            case "divided":
                mean = tf.reduce_mean(x, -1, keepdims=True)
                variance = tf.reduce_mean(tf.pow(x - mean, 2), -1, keepdims=True)
                return gamma * ((x - mean) / tf.sqrt(variance + s.eps)) + beta
            case "squares":
                mean = tf.reduce_mean(x, -1, keepdims=True)
                variance = tf.reduce_mean(x * x, -1, keepdims=True) - tf.square(mean)
                return gamma * (x - mean) * tf.math.rsqrt(variance + s.eps) + beta
            case "fused":  # Keras 2: each token is a channel of one batch normalisation
                shape = tf.shape(x)
                tokens = tf.reshape(x, (1, -1, width, 1))
                count = tf.shape(tokens)[1]
                y, _, _ = tf.compat.v1.nn.fused_batch_norm(
                    tokens, tf.ones(count), tf.zeros(count), epsilon=s.eps, data_format="NCHW"
                )
                return tf.reshape(y, shape) * gamma + beta
            case "rms":
                return (
                    x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + s.eps) * gamma
                    + beta
                )
        raise ValueError(s.norm)

    def _attention(self, x: tf.Tensor, name: str) -> tf.Tensor:
        s = self.spelling
        h, d, tokens = s.heads, s.head_dim, x.shape[1]
        wide, norm = h * d, "centred" if s.qk_norm else ""

        def normed(q: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if not norm:
                return q, k
            return self._norm(q, f"{name}.qn", norm), self._norm(k, f"{name}.kn", norm)

        match s.attention:
            case "separate":
                q, k, v = (
                    tf.transpose(
                        tf.reshape(self._dense(x, f"{name}.{part}", wide), (-1, tokens, h, d)),
                        (0, 2, 1, 3),
                    )
                    for part in "qkv"
                )
                q, k = normed(q, k)
                scores = tf.matmul(q, k, transpose_b=True) / tf.sqrt(tf.cast(d, tf.float32))
                mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))
            case "fused":
                qkv = tf.reshape(self._dense(x, f"{name}.qkv", 3 * wide), (-1, tokens, 3, h, d))
                qkv = tf.transpose(qkv, (2, 0, 3, 1, 4))
                q, k = normed(qkv[0], qkv[1])
                scores = tf.matmul(q * d**-0.5, tf.transpose(k, (0, 1, 3, 2)))
                mixed = tf.transpose(tf.nn.softmax(scores) @ qkv[2], (0, 2, 1, 3))
            case "einsum":
                q, k, v = (
                    tf.einsum(
                        "btc,chd->bthd", x, self._weight(f"{name}.{part}", s.dim, h, d, scale=0.2)
                    )
                    for part in "qkv"
                )
                q, k = normed(q, k)
                scores = tf.einsum("bqhd,bkhd->bhqk", q, k) * d**-0.5
                mixed = tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores), v)
            case "transposed":  # channels before tokens, keys before queries
                x = tf.transpose(x, (0, 2, 1))
                q, k, v = (
                    tf.reshape(
                        tf.einsum(
                            "oc,bct->bot", self._weight(f"{name}.{part}", wide, s.dim, scale=0.2), x
                        ),
                        (-1, h, d, tokens),
                    )
                    for part in "qkv"
                )
                scores = tf.matmul(k, q, transpose_a=True) * d**-0.5
                mixed = tf.matmul(v, tf.nn.softmax(scores, axis=2))
                mixed = tf.transpose(mixed, (0, 3, 1, 2))
            case "merged":  # heads in the batch axis, softmax in parts
                q, k, v = tf.split(self._dense(x, f"{name}.qkv", 3 * wide), 3, axis=-1)
                q, k, v = (
                    tf.reshape(
                        tf.transpose(tf.reshape(part, (-1, tokens, h, d)), (0, 2, 1, 3)),
                        (-1, tokens, d),
                    )
                    for part in (q, k, v)
                )
                q, k = normed(q, k)
                scores = tf.matmul(q, k, transpose_b=True) * d**-0.5
                scores = tf.exp(scores - tf.reduce_max(scores, -1, keepdims=True))
                weights = scores / tf.reduce_sum(scores, -1, keepdims=True)
                mixed = tf.reshape(tf.matmul(weights, v), (-1, h, tokens, d))
                mixed = tf.transpose(mixed, (0, 2, 1, 3))
            case _:
                raise ValueError(s.attention)
        return self._dense(tf.reshape(mixed, (-1, tokens, wide)), f"{name}.out", s.dim)

    def _mlp(self, x: tf.Tensor, name: str) -> tf.Tensor:
        s = self.spelling
        x = self._dense(x, f"{name}.fc1", s.mlp_dim)
        match s.activation:
            case "gelu":
                x = tf.nn.gelu(x)
            case "gelu_erf":
                x = 0.5 * x * (1.0 + tf.math.erf(x / np.float32(np.sqrt(2.0))))
            case "gelu_tanh":
                x = tf.nn.gelu(x, approximate=True)
            case "quick_gelu":
                x = x * tf.sigmoid(1.702 * x)
            case "relu":
                x = tf.nn.relu(x)
            case "silu":
                x = tf.nn.silu(x)
        return self._dense(x, f"{name}.fc2", s.dim)

    # --- head -----------------------------------------------------------------------------------

    def _pooled(self, x: tf.Tensor) -> tf.Tensor:
        s = self.spelling
        first = x.shape[1] - s.prefix_tokens if s.prefix_last else 0
        patches = x[:, :first] if s.prefix_last else x[:, s.prefix_tokens :]
        match s.pooling:
            case "class":
                x = x[:, first]
            case "distilled":
                x = x[:, first : first + 2]
            case "mean":
                x = tf.reduce_mean(patches, axis=1)
            case "class_and_mean":
                x = tf.stack([x[:, first], tf.reduce_mean(patches, axis=1)], axis=1)
            case "flatten":
                x = tf.reshape(x, (-1, x.shape[1] * s.dim))
        if s.pooled_norm:
            x = self._norm(x, "pooled_norm")
        vectors = {"distilled": 2, "class_and_mean": 2, "flatten": 1}.get(s.pooling, 1)
        return tf.reshape(x, (-1, vectors * s.dim)) if vectors > 1 else x
