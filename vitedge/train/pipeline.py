"""Training images, streamed: shuffled, decoded in parallel, augmented, batched.

What epoch ``e`` sees is a function of the seed and ``e`` alone, so a run that was interrupted
continues as if it had not been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.train.distort import distort

if TYPE_CHECKING:
    from vitedge.data import ImageSet
    from vitedge.preprocess import Preprocessing
    from vitedge.train.recipe import Recipe


class Loader:
    """Decodes and preprocesses images by their indices, for ``tf.numpy_function``.

    TensorFlow turns any exception on the way into one of its own; ``failure`` keeps ours.

    Raises:
        DataError: The set is empty, or a sample has no label or one that the model lacks.
    """

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, classes: int) -> None:
        self.labels = _labels(images, classes)
        self.failure: DataError | None = None
        self._samples, self._preprocessing = images.samples, preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (*self._preprocessing.size, self._preprocessing.channels)

    def __call__(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The images of some indices, uint8 ``(len(indices), H, W, C)``."""
        try:
            return self._preprocessing.batch([self._samples[index].image for index in indices])
        except DataError as error:
            self.failure = error
            raise


def _labels(images: ImageSet, classes: int) -> npt.NDArray[np.int64]:
    if not images.samples:
        raise DataError(f"'{images.name}' holds no images to train on")
    labels = np.empty(len(images.samples), np.int64)
    for index, sample in enumerate(images.samples):
        if sample.label is None:
            raise DataError(f"'{sample.name}' of '{images.name}' has no label to train on")
        labels[index] = sample.label
    if labels.max() >= classes:
        raise DataError(
            f"'{images.name}' has a label {labels.max()}, the model has {classes} classes"
        )
    return labels


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in a set; one smaller batch when the set fills none."""
    return max(1, images // batch_size)


def training_batches(loader: Loader, classes: int, recipe: Recipe, first_epoch: int = 0) -> Any:
    """A ``tf.data.Dataset`` of ``(pixels uint8 (B, H, W, C), targets float32 (B, classes))``.

    It yields ``steps_per_epoch`` batches for each epoch from ``first_epoch`` on. The images that
    fill no whole batch are left out, others in each epoch.
    """
    import tensorflow as tf

    labels = tf.constant(loader.labels)
    steps = steps_per_epoch(len(loader), recipe.batch_size)
    batch_size = min(recipe.batch_size, len(loader))
    run_seed = tf.constant(recipe.seed, tf.int64)

    def epoch_indices(epoch: Any) -> Any:
        everything = tf.range(len(loader), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(everything, tf.stack([run_seed, epoch]))
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        return batches.enumerate(epoch * steps)

    def load(step: Any, indices: Any) -> Any:
        pixels = tf.numpy_function(loader, [indices], tf.uint8)
        pixels = tf.ensure_shape(pixels, (batch_size, *loader.image_shape))
        pixels = distort(pixels, recipe.augmentation, tf.stack([run_seed, step]))
        return pixels, tf.one_hot(tf.gather(labels, indices), classes)

    return (
        tf.data.Dataset.range(first_epoch, recipe.epochs)
        .flat_map(epoch_indices)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(loader: Loader, classes: int, batch_size: int) -> Any:
    """A ``tf.data.Dataset`` of a set in its own order, preprocessed as on the device."""
    import tensorflow as tf

    targets = tf.one_hot(loader.labels, classes)

    def load(indices: Any) -> Any:
        pixels = tf.numpy_function(loader, [indices], tf.uint8)
        pixels = tf.ensure_shape(pixels, (None, *loader.image_shape))
        return pixels, tf.gather(targets, indices)

    batches = tf.data.Dataset.range(len(loader)).batch(batch_size)
    return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(1)
