"""A trained model made ready for other classes and another image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.class_matching import match_classes
from vitedge.data import ImageSet, RelabelledSamples
from vitedge.errors import UsageError
from vitedge.importers import ImportOptions
from vitedge.importers.overrides import with_options
from vitedge.presets import fresh_head
from vitedge.progress import Progress, silent
from vitedge.spec import Pooling
from vitedge.vit import ViT

_BATCH = 32


def adapt(
    vit: ViT,
    class_names: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> ViT:
    """The model with a fresh head for these classes, and its positions interpolated.

    A model that already has these classes keeps its head, and so it does where classes have no
    names: then labels are indices of its own. Hidden layers of a head belong to the old classes
    and go with it.

    Args:
        vit: The trained model; left unchanged.
        class_names: Names of the classes to learn; empty for the model's own.
        image_size: Height and width in pixels; None keeps the model's.
        seed: Of the fresh head.

    Raises:
        ModelError: The model cannot take that image size.
    """
    if image_size is not None:
        vit = with_options(vit, ImportOptions(image_size=image_size))
    names = tuple(class_names)
    if not names or names == vit.labels:
        return vit
    config = replace(vit.config, classes=len(names))
    head = fresh_head(config, np.random.default_rng(seed))
    return replace(vit, config=config, head=head, head_hidden=(), labels=names)


def with_distillation_token(vit: ViT) -> ViT:
    """The model with a second token and a head of its own for it (arXiv:2012.12877).

    The new token is a copy of the class token, its head one of the class token's; what the model
    answers is the mean of both. A model that has the token already is returned as it is.

    Raises:
        UsageError: The model does not read its class token alone.
    """
    if vit.config.pooling is Pooling.DISTILLED:
        return vit
    if vit.config.pooling is not Pooling.CLASS or vit.head_hidden:
        raise UsageError(
            "a distillation token goes beside a class token with a plain head; this model pools "
            f"'{vit.config.pooling}' with {len(vit.head_hidden)} hidden layers in its head"
        )
    config = replace(
        vit.config, prefix_tokens=vit.config.prefix_tokens + 1, pooling=Pooling.DISTILLED
    )
    half = (vit.head.weight / 2).astype(np.float32)
    return replace(
        vit,
        config=config,
        prefix=np.concatenate([vit.prefix[:1], vit.prefix]),
        head=replace(vit.head, weight=np.concatenate([half, half])),
    )


def in_classes_of(vit: ViT, images: ImageSet) -> ImageSet:
    """The images with labels that index the model's own classes, matched by name or index.

    Raises:
        DataError: The model has no such class.
    """
    known = _class_names(vit)
    if not images.class_names or images.class_names == known:
        return images
    names, index_of = match_classes(images.class_names, known, images.name)
    labels = [
        None if sample.label is None else index_of[images.class_names[sample.label]]
        for sample in images.samples
    ]
    return ImageSet(images.name, RelabelledSamples(images.samples, labels), names)


def answered(images: ImageSet, teacher: ViT, progress: Progress = silent) -> ImageSet:
    """The images, each labelled with the class that a teacher takes it for.

    Raises:
        DataError: An image cannot be decoded.
    """
    from vitedge.keras_model import to_keras

    model, count = to_keras(teacher), len(images.samples)
    labels: list[int] = []
    for start in range(0, count, _BATCH):
        progress("asking the teacher", start, count)
        samples = images.samples[start : start + _BATCH]
        pixels = teacher.preprocessing.batch([sample.image for sample in samples])
        labels += np.asarray(model(pixels)).argmax(-1).tolist()
    return ImageSet(images.name, RelabelledSamples(images.samples, labels), _class_names(teacher))


def _class_names(vit: ViT) -> tuple[str, ...]:
    return vit.labels or tuple(str(index) for index in range(vit.config.classes))
