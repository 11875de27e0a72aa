"""Parts of CIFAR-10 in files that the commands take: what is trained on, measured on, tested on.

The 10,000 test images are in none of the files that training sees: what an epoch is measured
on, and the best one chosen by, are other training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.train import open_training_images

_AS_IT_IS = Preprocessing(size=(32, 32))
_CLASSES = 10


def write_training_file(
    cifar: Path, path: Path, *, images: int, held_out: int, seed: int
) -> ImageSet:
    """Writes as many images of each class to train on, and others to measure on.

    Args:
        cifar: CIFAR-10 in a form that ``vitedge train`` takes.
        path: The ``.npz`` to write.
        images: How many to train on.
        held_out: How many others to measure on.
        seed: Of the choice.

    Returns:
        The test set, which is not in the file.
    """
    training, test = open_training_images(cifar)
    labels = np.array([sample.label for sample in training.samples])
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in range(_CLASSES)]
    each, more = images // _CLASSES, held_out // _CLASSES
    chosen = np.concatenate([found[:each] for found in members])
    others = np.concatenate([found[each : each + more] for found in members])
    np.savez(
        path,
        x_train=pixels_of([training.samples[index] for index in chosen]),
        y_train=labels[chosen],
        x_test=pixels_of([training.samples[index] for index in others]),
        y_test=labels[others],
        classes=np.array(training.class_names),
    )
    return test


def pixels_of(samples: Sequence[Sample]) -> np.ndarray:
    """The images as they are, uint8 ``(N, 32, 32, 3)``."""
    return np.stack([_AS_IT_IS(sample.image) for sample in samples])
