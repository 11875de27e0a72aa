"""Classes of a set of images as classes of a model: by name, or by index."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.images.label_names import names_for_people, wordnet_id

_MOST_DIGITS = 9


def match_classes(
    found: Iterable[str], class_names: tuple[str, ...], source: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of all classes, and the index of each class found.

    A name of the model's wins over an index, so that folders ``0`` to ``9`` of a model whose
    labels are digits mean what they say. Upper and lower case are the same. Where labels are a
    WordNet id and a name, either of the two will do.

    Raises:
        DataError: The model has no such class.
    """
    indices = {name: as_index(name) for name in found}
    ordered = sorted(
        indices, key=lambda name: (math.inf if indices[name] is None else indices[name], name)
    )
    if not class_names:
        return tuple(ordered), {name: index for index, name in enumerate(ordered)}
    by_name = _indices_by_name(class_names)
    index_of: dict[str, int] = {}
    for name in ordered:
        index = by_name.get(name.casefold(), as_index(name))
        if index is None or not 0 <= index < len(class_names):
            raise DataError(
                f"class '{name}' of '{source}' is not one of the model's {len(class_names)}: "
                f"{_excerpt(class_names)} (the data has {_excerpt(ordered)})"
            )
        index_of[name] = index
    return class_names, index_of


def as_index(name: str) -> int | None:
    """The index that a class is called by; None for any other name."""
    # Python refuses to convert thousands of digits, and no data has a class of so many.
    return int(name) if name.isdecimal() and len(name) <= _MOST_DIGITS else None


def _indices_by_name(class_names: tuple[str, ...]) -> dict[str, int]:
    """The index of each class by whatever it may be called; of equal names the first counts."""
    by_name: dict[str, int] = {}
    for called in (
        class_names,
        names_for_people(class_names),
        [wordnet_id(name) or "" for name in class_names],
    ):
        for index, name in enumerate(called):
            if name:
                by_name.setdefault(name.casefold(), index)
    return by_name


def renumbered(
    labels: npt.NDArray[np.integer[Any]],
    own_names: tuple[str, ...],
    class_names: tuple[str, ...],
    source: str,
) -> npt.NDArray[np.integer[Any]]:
    """Labels that index the set's own classes as labels that index the model's.

    Raises:
        DataError: A class that the set uses is not one of the model's.
    """
    used = [own_names[index] for index in np.unique(labels)]
    _, index_of = match_classes(used, class_names, source)
    new_index = np.array([index_of.get(name, -1) for name in own_names], np.int64)
    return np.asarray(new_index[labels])


def checked_labels(
    labels: npt.NDArray[Any], images: int, names: tuple[str, ...], path: Path
) -> npt.NDArray[np.integer[Any]]:
    """Labels ``(N,)`` that fit the images and the names, if there are any names.

    Raises:
        DataError: The labels do not fit.
    """
    if len(labels) != images:
        raise DataError(f"'{path}' has {len(labels)} labels for {images} images")
    if labels.dtype.kind not in "iu":
        raise DataError(f"'labels' in '{path}' must be integers, not {labels.dtype}")
    if images and (labels.min() < 0 or (names and labels.max() >= len(names))):
        raise DataError(
            f"'labels' in '{path}' run from {labels.min()} to {labels.max()}, but there are "
            f"{len(names)} classes: {_excerpt(names)}"
        )
    return labels


def _excerpt(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown}, ..." if len(names) > most else shown
