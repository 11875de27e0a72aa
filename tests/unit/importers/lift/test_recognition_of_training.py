"""A SavedModel that was exported as in training says so when it is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitedge.errors import VitedgeError
from vitedge.importers import ImportOptions, read_model

OPTIONS = ImportOptions(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_a_batch_norm_in_training_is_named(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    smaller = layers.Resizing(8, 8)(image)  # whose training=True Keras hands on
    patches = layers.Conv2D(8, 4, strides=4)(smaller)
    tokens = layers.Reshape((4, 8))(layers.BatchNormalization()(patches))
    attended = tokens + layers.MultiHeadAttention(2, 4)(tokens, tokens)
    logits = layers.Dense(3)(layers.GlobalAveragePooling1D()(attended))
    keras.Model(image, logits).export(tmp_path / "model", verbose=False)
    with pytest.raises(VitedgeError, match="if it is a batch norm in training"):
        read_model(tmp_path / "model", OPTIONS)
