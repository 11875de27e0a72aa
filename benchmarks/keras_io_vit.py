"""The model and recipe that keras.io describes in "Image classification with Vision Transformer".

Written anew from the description at
https://keras.io/examples/vision/image_classification_with_vision_transformer: images stretched to
72 pixels, patches of 6, eight blocks 64 wide with four heads of 64 each, dropout, a head of 2048
and 1024 units on all tokens at once; AdamW at a constant rate.
"""

from __future__ import annotations

import time

import keras
import numpy as np
from keras import layers

SIDE, PATCH, WIDTH, DEPTH, HEADS = 72, 6, 64, 8, 4
HEAD_WIDTHS = (2048, 1024)
BATCH, LEARNING_RATE, WEIGHT_DECAY = 256, 1e-3, 1e-4


class Positions(layers.Layer):
    """Adds a learned vector to each token."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the vectors."""
        self.table = self.add_weight(shape=input_shape[1:], initializer="uniform")

    def call(self, tokens: object) -> object:
        """Tokens to tokens."""
        return tokens + self.table


def build(pixels: np.ndarray, classes: int) -> keras.Model:
    """The untrained model of raw pixels, normalised as the training images ask for."""
    normalize = layers.Normalization()
    normalize.adapt(pixels.astype(np.float32))
    image = keras.Input(pixels.shape[1:])
    x = layers.Resizing(SIDE, SIDE)(normalize(image))
    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomRotation(0.02)(x)
    x = layers.RandomZoom(0.2, 0.2)(x)
    # A convolution of patch-sized steps is a linear layer of each patch.
    x = layers.Conv2D(WIDTH, PATCH, PATCH)(x)
    x = Positions()(layers.Reshape((-1, WIDTH))(x))
    for _ in range(DEPTH):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH, dropout=0.1)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + _perceptron(y, (2 * WIDTH, WIDTH), dropout=0.1)
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    x = _perceptron(layers.Dropout(0.5)(x), HEAD_WIDTHS, dropout=0.5)
    return keras.Model(image, layers.Dense(classes)(x))


def _perceptron(x: object, widths: tuple[int, ...], *, dropout: float) -> object:
    for width in widths:
        x = layers.Dropout(dropout)(layers.Dense(width, activation="gelu")(x))
    return x


def train_for(
    pixels: np.ndarray, labels: np.ndarray, classes: int, *, processor_s: float, seed: int
) -> tuple[keras.Model, int]:
    """Trains until so much processor time is used, building and compiling included.

    Returns:
        The model, and how many images it saw.
    """
    end, seen = time.process_time() + processor_s, 0
    keras.utils.set_random_seed(seed)
    model = build(pixels, classes)
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(pixels))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            model.train_on_batch(pixels[chosen], labels[chosen])
            seen += len(chosen)
            if time.process_time() > end:
                return model, seen
