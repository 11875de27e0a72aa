"""Makes ``tests/golden/lift/keras_2.h5`` and its expectations, with Keras 2 (``tf-keras``).

The model has what Keras 3 cannot read
from such a file: attention, and TensorFlow operations between layers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras as keras
from tf_keras import layers

from reference.keras_models import restart_numbering


def main(folder: Path) -> None:
    """Writes the model, an input and its softmax."""
    restart_numbering(keras)
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 24, 3))
    x = layers.Conv2D(24, 8, 8)(layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = layers.Reshape((6, 24))(x)
    for epsilon in (1e-3, 1e-6):  # Keras 2 spells LayerNorm in two ways, by epsilon
        y = layers.LayerNormalization(epsilon=epsilon)(x)
        x = x + layers.MultiHeadAttention(3, 8, dropout=0.1)(y, y)
        y = layers.LayerNormalization(epsilon=epsilon)(x)
        y = layers.Dense(40, activation="gelu", bias_initializer="normal")(y)
        x = x + layers.Dense(24)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(x)[:, 0]
    model = keras.Model(image, layers.Dense(5, activation="softmax")(x))
    model.save(folder / "keras_2.h5")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    answers = np.asarray(model(pixels.astype(np.float32), training=False))
    np.savez(folder / "keras_2.npz", images=pixels, probabilities=answers)
