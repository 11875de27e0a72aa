"""A ViT in full int8 by TensorFlow's own converter: the file that most people have."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from tests.support.models import random_images
from tests.support.target_artifacts import small_vit
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.tflite.generic import TFLiteDraft
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


def save_stock_int8(path: Path) -> Path:
    """``small_vit``, every tensor in 8 bits."""
    import tensorflow as tf

    from vitedge.in_keras.model import to_keras

    network = small_vit()
    model = to_keras(apply_rewrites(network, without=["pooled-queries-only"])[0])
    signature = [tf.TensorSpec([1, *network.image_shape])]
    function = tf.function(model.call, signature, autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    photos = random_images(network, 8, seed=1).astype(np.float32)
    converter.representative_dataset = lambda: [[photo[None]] for photo in photos]
    metadata = Metadata(
        format=Format.TFLITE,
        precision=Precision.INT8,
        labels=network.labels,
        preprocessing=network.preprocessing,
        source=Source("small.keras", "0" * 64, "by hand"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it has no ranges before it has calibrated
        content = converter.convert()
    TFLiteDraft(content).save(path, metadata)
    return path
