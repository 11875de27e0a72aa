"""Training images, streamed: shuffled, decoded in parallel, augmented, batched.

What epoch ``e`` sees is a function of the seed and ``e`` alone, so a run that was interrupted
continues as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.train.augment import augmented
from vitedge.train.distort import distort
from vitedge.train.mix import mix
from vitedge.train.share import Share, whole

if TYPE_CHECKING:
    from vitedge.images.image_sets import ImageSet
    from vitedge.images.preprocess import ImageLike, Preprocessing
    from vitedge.train.recipe import Augmentation, TrainingRecipe


# Larger ones overflow a processor's caches, and gain it nothing.
EVALUATION_BATCH = 32


class Loader:
    """Decodes and preprocesses images by their indices, for ``tf.numpy_function``.

    TensorFlow turns any exception on the way into one of its own; ``failure`` keeps ours.

    Attributes:
        labels: The class of each image, ``(N,)``.
        failure: The error that ended the stream, if one did.

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

    def load(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Images as the device sees them, uint8 ``(len(indices), H, W, C)``."""
        return self._batch(indices, lambda image, index: self._preprocessing(image))

    def load_augmented(
        self, indices: npt.NDArray[np.int64], augmentation: Augmentation, seed: Sequence[int]
    ) -> npt.NDArray[np.uint8]:
        """Images changed at random, each in a way that ``seed`` and its index alone decide."""

        def change(image: ImageLike, index: int) -> npt.NDArray[np.uint8]:
            rng = np.random.default_rng((*seed, index))
            return augmented(image, self._preprocessing, augmentation, rng)

        return self._batch(indices, change)

    def _batch(
        self,
        indices: npt.NDArray[np.int64],
        change: Callable[[ImageLike, int], npt.NDArray[np.uint8]],
    ) -> npt.NDArray[np.uint8]:
        try:
            return np.stack([change(self._samples[each].image, each) for each in indices.tolist()])
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
    """Batches that show every image of a set."""
    return math.ceil(images / batch_size)


def training_batches(
    loader: Loader,
    classes: int,
    recipe: TrainingRecipe,
    first_epoch: int = 0,
    share: Share | None = None,
) -> Any:
    """A ``tf.data.Dataset`` of ``(pixels uint8 (B, H, W, C), targets float32 (B, classes))``.

    It yields ``steps_per_epoch`` batches for each epoch from ``first_epoch`` on, which show every
    image. Where images are missing for the last batch, the first ones of the epoch, which are
    others in each, are shown once more. With a ``share``, each batch is that part of it.
    """
    import tensorflow as tf

    labels = tf.constant(loader.labels)
    share = share or whole(min(recipe.batch_size, len(loader)))
    steps = steps_per_epoch(len(loader), recipe.batch_size)

    def fetch(step: Any, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        seed = recipe.seed, int(step) // steps
        return loader.load_augmented(indices, recipe.augmentation, seed)

    def load(step: Any, indices: Any) -> Any:
        indices = share.take(indices)
        pixels = tf.numpy_function(fetch, [step, indices], tf.uint8)
        pixels = tf.ensure_shape(pixels, (len(share.positions), *loader.image_shape))
        seed = tf.stack([tf.constant(recipe.seed, tf.int64), step])
        pixels = distort(pixels, recipe.augmentation, seed, share)
        targets = tf.one_hot(tf.gather(labels, indices), classes)
        return mix(pixels, targets, recipe.augmentation, seed, share)

    batches = shuffled_indices(len(loader), recipe, first_epoch)
    return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )


def shuffled_indices(count: int, recipe: TrainingRecipe, first_epoch: int) -> Any:
    """A dataset of ``(step, indices (B,))``; the step counts on from epoch to epoch."""
    import tensorflow as tf

    batch_size = min(recipe.batch_size, count)
    steps = steps_per_epoch(count, batch_size)

    def shuffled(epoch: Any) -> Any:
        seed = tf.stack([tf.constant(recipe.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)
        filled = tf.concat([order, order[: steps * batch_size - count]], 0)
        batches = tf.data.Dataset.from_tensor_slices(filled).batch(batch_size, drop_remainder=True)
        return batches.enumerate(epoch * steps)

    return tf.data.Dataset.range(first_epoch, recipe.epochs).flat_map(shuffled)


def evaluation_batches(loader: Loader, classes: int, replica: int = 0, of: int = 1) -> Any:
    """A ``tf.data.Dataset`` of a set in its own order, preprocessed as on the device.

    Of several replicas each has every so-manieth image, and as many batches as the others: where
    it has no image left, the last one stands in with a target of zeros, which adds nothing.
    """
    import tensorflow as tf

    labels = tf.constant(loader.labels)

    def load(indices: Any, counts: Any) -> Any:
        pixels = tf.numpy_function(loader.load, [indices], tf.uint8)
        pixels = tf.ensure_shape(pixels, (None, *loader.image_shape))
        return pixels, tf.one_hot(tf.gather(labels, indices), classes) * counts

    batches = evaluation_indices(len(loader), replica, of)
    return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(1)


def evaluation_indices(count: int, replica: int, of: int) -> Any:
    """A dataset of ``(indices (B,), float32 (B, 1))``: 1 for an image, 0 for a stand-in."""
    import tensorflow as tf

    def stand_in(indices: Any) -> Any:
        present = tf.minimum(indices, count - 1)
        return present, tf.cast(indices < count, tf.float32)[:, None]

    most = -(-count // of) * of
    return tf.data.Dataset.range(replica, most, of).batch(EVALUATION_BATCH).map(stand_in)
