"""The model of the demo: handwritten digits, trained in under a minute on two cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vitedge.data import digits
from vitedge.preprocess import Preprocessing
from vitedge.presets import initialize
from vitedge.spec import Interpolation
from vitedge.train.fit import Trained, train
from vitedge.train.recipe import Augmentation, Recipe
from vitedge.vit import ViTConfig

if TYPE_CHECKING:
    from vitedge.train.progress import Epoch

DIGITS_PREPROCESSING = Preprocessing(
    # Twice the scans' 8 pixels: shifted and rotated at 8, training images are all blurred, and
    # the sharp ones that follow are foreign to the model (96 % instead of 98.5 %).
    size=(16, 16),
    channels=1,
    interpolation=Interpolation.BICUBIC,
    # Measured on the training set.
    mean=(0.3055,),
    std=(0.3760,),
)

DIGITS_CONFIG = ViTConfig(
    image_size=(16, 16),
    patch_size=(4, 4),
    channels=1,
    dim=64,
    depth=4,
    heads=4,
    head_dim=16,
    mlp_dim=128,
    classes=10,
    attention_scale=16**-0.5,
)

DIGITS_RECIPE = Recipe(
    epochs=70,
    batch_size=128,
    learning_rate=2e-3,
    augmentation=Augmentation(shift=0.1, rotation=12.0, zoom=0.12),
)


def train_digits(
    *, recipe: Recipe = DIGITS_RECIPE, on_epoch: Callable[[Epoch], None] | None = None
) -> Trained:
    """Trains the demo's model from fresh weights; ``data.digits()`` has its held-out images.

    Raises:
        UnavailableError: TensorFlow, Keras or scikit-learn is not installed.
    """
    images, held_out = digits()
    vit = initialize(DIGITS_CONFIG, DIGITS_PREPROCESSING, images.class_names, seed=recipe.seed)
    return train(vit, images, recipe, held_out=held_out, on_epoch=on_epoch)
