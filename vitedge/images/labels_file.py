"""``labels.csv``: what is known of each image of a folder.

Its column ``file`` has the image's path, relative to the file's own folder. ``label`` has its
class, by name or index; ``truth`` has the path of the ground truth of its pixels, for models that
give maps (see ``images.true_maps``). One of the two must be there.
"""

from __future__ import annotations

import csv
from pathlib import Path

from vitedge.errors import DataError
from vitedge.images.class_matching import as_index, match_classes
from vitedge.images.samples import Sample

LABELS_FILE = "labels.csv"

_KNOWN = ("label", "truth")


def read_labels_file(
    path: Path, class_names: tuple[str, ...]
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The images that a file lists, in its order, and the names of their classes.

    Args:
        path: The file.
        class_names: The model's labels; empty means the file's own.

    Raises:
        DataError: The file is not such a table, names a file that is not there, or a class that the
            model does not have.
    """
    columns = _columns(path)
    index_of: dict[str, int] = {}
    if "label" in columns:
        columns["label"] = [label.strip() for label in columns["label"]]
        labels = set(columns["label"])
        indices = {label: index for label in labels if (index := as_index(label)) is not None}
        if not class_names and len(indices) == len(labels):
            index_of = indices
        else:
            class_names, index_of = match_classes(labels, class_names, str(path))
    files, folder = columns["file"], path.parent
    labels_of = columns.get("label", [""] * len(files))
    truths = columns.get("truth")
    samples = tuple(
        Sample(
            file,
            str(folder / file),
            index_of.get(labels_of[row]),
            None if truths is None else str(folder / truths[row]),
        )
        for row, file in enumerate(files)
    )
    return samples, class_names


def _columns(path: Path) -> dict[str, list[str]]:
    """The columns that count, by name; every cell is filled, and every file is there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            given = set(reader.fieldnames or ())
            names = ["file", *(name for name in _KNOWN if name in given)]
            if "file" not in given or len(names) == 1:
                raise DataError(f"the first line of '{path}' must be: file,label or file,truth")
            rows = [{name: row[name] or "" for name in names} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' is not a readable CSV file ({error})") from error
    for line, row in enumerate(rows, start=2):
        if not all(cell.strip() for cell in row.values()):
            words = " or a ".join(names)
            raise DataError(f"line {line} of '{path}' lacks a {words}")
        for name in ("file", "truth"):
            if name in row and not (path.parent / row[name]).is_file():
                raise DataError(f"line {line} of '{path}' names '{row[name]}', which is not there")
    return {name: [row[name] for row in rows] for name in names}
