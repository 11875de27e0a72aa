"""A ViT in full int8 by TensorFlow's own converter: the file that most people have."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.models import random_images
from tests.target_artifacts import small_vit
from vitedge.artifact import Metadata, Source
from vitedge.elements.plain_vit import PlainViT
from vitedge.generic.to_tflite import TFLiteDraft
from vitedge.network.operators import Linear, Norm
from vitedge.rewrite import apply_rewrites
from vitedge.spec import Format, Precision


def save_stock_int8(path: Path) -> Path:
    """``small_vit``, every tensor in 8 bits."""
    import tensorflow as tf

    vit = small_vit()
    rewritten, _ = apply_rewrites(vit, without=["pooled-queries-only"])
    signature = [tf.TensorSpec([1, *vit.config.image_size, 3])]
    function = tf.function(lambda pixels: _logits(tf, rewritten, pixels), signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    photos = random_images(vit, 8, seed=1).astype(np.float32)
    converter.representative_dataset = lambda: [[photo[None]] for photo in photos]
    metadata = Metadata(
        format=Format.TFLITE,
        precision=Precision.INT8,
        labels=vit.labels,
        preprocessing=vit.preprocessing,
        source=Source("small.keras", "0" * 64, "by hand"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it has no ranges before it has calibrated
        content = converter.convert()
    TFLiteDraft(content).save(path, metadata)
    return path


def _logits(tf: Any, vit: PlainViT, pixels: Any) -> Any:
    config = vit.config
    kernel = vit.patch.weight.reshape(*config.patch_size, 3, config.dim)
    x = tf.nn.conv2d(pixels, kernel, config.patch_size, "VALID") + vit.patch.bias
    x = tf.reshape(x, [config.patches, config.dim]) + vit.positions
    x = tf.concat([vit.prefix, x], 0)

    def by_head(layer: Linear, values: Any) -> Any:
        shape = [config.tokens, config.heads, config.head_dim]
        return tf.transpose(tf.reshape(_linear(tf, layer, values), shape), [1, 0, 2])

    for block in vit.blocks:
        normed = _norm(tf, block.norm1, x)
        q, k, v = (by_head(layer, normed) for layer in (block.q, block.k, block.v))
        shares = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * config.attention_scale)
        mixed = tf.transpose(tf.matmul(shares, v), [1, 0, 2])
        x = x + _linear(tf, block.out, tf.reshape(mixed, [config.tokens, -1]))
        hidden = tf.nn.gelu(_linear(tf, block.fc1, _norm(tf, block.norm2, x)), approximate=False)
        x = x + _linear(tf, block.fc2, hidden)
    return _linear(tf, vit.head, _norm(tf, vit.norm, x)[:1])


def _linear(tf: Any, layer: Linear, x: Any) -> Any:
    return tf.matmul(x, layer.weight) + layer.bias


def _norm(tf: Any, norm: Norm | None, x: Any) -> Any:
    assert norm is not None
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + norm.eps) * norm.gamma + norm.beta
