"""Folders that are not what was meant: a level too deep or too high, or parts by other names."""

from __future__ import annotations

import os
from pathlib import Path

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet, is_image
from vitedge.images.labels_file import LABELS_FILE

HELD_OUT_FOLDERS = ("validation", "valid", "val", "test")
_SHOWN = 4
_DEEPEST = 4  # levels below which nobody unpacks an archive by mistake


def refuse_wrong_level(images: ImageSet, path: Path) -> None:
    """Refuses photos without class folders, and a folder around the one with the class folders.

    Raises:
        DataError: The folder is one of those; the words say which to give.
    """
    if not path.is_dir() or (path / LABELS_FILE).is_file():
        return
    labels = {sample.label for sample in images.samples}
    if labels == {None}:
        above = path.parent if path.parent != Path() else Path(os.path.abspath(path)).parent
        siblings = folders_of_images(above)
        words = f"'{path}' holds images and no folders of them, and a class is a folder"
        if len(siblings) > 1:
            raise DataError(f"{words}: give the folder above, '{above}' ({_named(siblings)})")
        raise DataError(
            f"{words}: move the images of each class into a folder of its own, or name their "
            f"classes in {LABELS_FILE} with the columns file,label"
        )
    if len(images.class_names) == 1:
        inside = path / images.class_names[0]
        for _ in range(_DEEPEST):
            classes = folders_of_images(inside)
            if len(classes) > 1:
                raise DataError(
                    f"'{path}' holds one folder of images, '{inside.relative_to(path)}', and that "
                    f"holds the classes: give '{inside}' ({_named(classes)})"
                )
            folders = _folders(inside)
            if len(folders) != 1:
                return
            inside = folders[0]


def refuse_other_part_names(path: Path) -> None:
    """Refuses a folder ``train`` of class folders that has no held-out part beside it.

    Raises:
        DataError: ``train`` and its neighbours would be taken for classes.
    """
    training = path / "train"
    if not training.is_dir() or not folders_of_images(training):
        return
    others = [name for name in folders_of_images(path) if name != "train"]
    if others:
        raise DataError(
            f"'{path}' holds 'train' and {_quoted(others)}: call the part to measure on one of "
            f"{', '.join(HELD_OUT_FOLDERS)}, or give '{training}' alone, to hold a share of it out"
        )


def refuse_unlabelled_part(held_out: ImageSet, path: Path) -> None:
    """Refuses a held-out part of photos without classes.

    Raises:
        DataError: An image has no label.
    """
    if any(sample.label is None for sample in held_out.samples):
        raise DataError(
            f"'{path}' is the part to measure on, and its images lie in no class folders: sort "
            f"them, or give '{path.parent / 'train'}' alone, to hold a share of it out"
        )


def folders_of_images(folder: Path) -> list[str]:
    """Names of the folders within one that hold images; a deep look might take minutes."""
    try:
        return sorted(
            each.name for each in _folders(folder) if any(is_image(file) for file in each.iterdir())
        )
    except OSError:  # not ours to read, and then none of it was meant
        return []


def _folders(folder: Path) -> list[Path]:
    """The folders within one, without those that programs make for themselves."""
    try:
        return [
            each
            for each in folder.iterdir()
            if each.is_dir() and not each.name.startswith((".", "__"))
        ]
    except OSError:
        return []


def _named(classes: list[str]) -> str:
    more = ", ..." if len(classes) > _SHOWN else ""
    return f"{len(classes)} folders: {', '.join(classes[:_SHOWN])}{more}"


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN])
