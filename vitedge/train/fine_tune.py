"""A trained model made ready for other classes and another image size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.elements.presets import fresh_head
from vitedge.errors import UsageError
from vitedge.images.class_matching import match_classes
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import RelabelledSamples
from vitedge.importers import ImportOptions
from vitedge.importers.overrides import with_options
from vitedge.network.blocks import blocks, head_of
from vitedge.network.network import Network, Value, needed
from vitedge.network.tasks import Task
from vitedge.terminal.progress import Progress, silent

_BATCH = 32


def adapt(
    network: Network,
    class_names: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Network:
    """The model with a fresh head for these classes, and its positions interpolated.

    A model that already has these classes keeps its head, and so it does where classes have no
    names: then labels are indices of its own. Hidden layers of a head belong to the old classes and
    go with it. An embedding gets a head of its own.

    Args:
        network: The trained model; left unchanged.
        class_names: Names of the classes to learn; empty for the model's own.
        image_size: Height and width in pixels; None keeps the model's.
        seed: The seed of the fresh head.

    Raises:
        ModelError: The model cannot take that image size.
        UsageError: No linear layer makes its logits, or it gives no vector of the whole image.
    """
    if image_size is not None:
        network = with_options(network, ImportOptions(image_size=image_size))
    names = tuple(class_names)
    if not names or (names == network.labels and network.task is Task.CLASSES):
        return network
    old = None if network.task is Task.EMBEDDING else network.main
    features, name = network.main, _free_name(network)
    if old is not None:
        head = head_of(network, blocks(network))
        if not head:
            raise UsageError("the model has no linear layer that makes its logits, to be made anew")
        features, name = head[0].inputs[0], old.name
    elif len(features.shape) != 1:
        raise UsageError(f"the model gives {features.shape} of each image, and no vector to name")
    fresh = fresh_head(features.shape[-1], len(names), np.random.default_rng(seed))
    made = Value(name, fresh, (features,))
    others = {key: each for key, each in network.outputs.items() if each is not network.main}
    outputs = {Task.CLASSES.output: made, **others}
    kept = [each for each in network.values if each is not old]
    return replace(
        network,
        values=needed([*kept, made], outputs.values()),
        outputs=outputs,
        labels=names,
        task=Task.CLASSES,
    )


def _free_name(network: Network) -> str:
    """The possible names of a layer that is added."""
    taken = {each.name for each in network.values}
    names = itertools.chain(("head",), (f"head.{number}" for number in itertools.count()))
    return next(name for name in names if name not in taken)


def in_classes_of(network: Network, images: ImageSet) -> ImageSet:
    """The images with labels that index the model's own classes, matched by name or index.

    Raises:
        DataError: The model has no such class.
    """
    known = _class_names(network)
    if not images.class_names or images.class_names == known:
        return images
    names, index_of = match_classes(images.class_names, known, images.name)
    labels = [
        None if sample.label is None else index_of[images.class_names[sample.label]]
        for sample in images.samples
    ]
    return ImageSet(images.name, RelabelledSamples(images.samples, labels), names)


def answered(images: ImageSet, teacher: Network, progress: Progress = silent) -> ImageSet:
    """The images, each labelled with the class that a teacher takes it for.

    Raises:
        DataError: An image cannot be decoded.
    """
    from vitedge.in_keras.model import to_keras

    model, count = to_keras(teacher), len(images.samples)
    labels: list[int] = []
    for start in range(0, count, _BATCH):
        progress("asking the teacher", start, count)
        samples = images.samples[start : start + _BATCH]
        pixels = teacher.preprocessing.batch([sample.image for sample in samples])
        labels += np.asarray(model(pixels)).argmax(-1).tolist()
    return ImageSet(images.name, RelabelledSamples(images.samples, labels), _class_names(teacher))


def _class_names(network: Network) -> tuple[str, ...]:
    return network.labels or tuple(str(index) for index in range(network.classes))
