"""A trained model made ready for other classes and another image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.importers import ImportOptions
from vitedge.importers.overrides import with_options
from vitedge.presets import fresh_head
from vitedge.vit import ViT


def adapt(
    vit: ViT,
    class_names: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> ViT:
    """The model with a fresh head for these classes, and its positions interpolated.

    A model that already has these classes keeps its head. Hidden layers of a head belong to the
    old classes and go with it.

    Args:
        vit: The trained model; left unchanged.
        class_names: Names of the classes to learn.
        image_size: Height and width in pixels; None keeps the model's.
        seed: Of the fresh head.

    Raises:
        ModelError: The model cannot take that image size.
    """
    if image_size is not None:
        vit = with_options(vit, ImportOptions(image_size=image_size))
    names = tuple(class_names)
    if names == vit.labels:
        return vit
    config = replace(vit.config, classes=len(names))
    head = fresh_head(config, np.random.default_rng(seed))
    return replace(vit, config=config, head=head, head_hidden=(), labels=names)
