"""CIFAR-10 and CIFAR-100 in their binary form: https://www.cs.toronto.edu/~kriz/cifar.html.

The form for Python is a pickle, which runs code when it is read; it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError

SUFFIX = ".bin"
_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_DOWNLOAD = "https://www.cs.toronto.edu/~kriz/cifar-{classes}-binary.tar.gz"


class Part(StrEnum):
    """The two parts in which a set is published."""

    TRAINING = "training"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class _Form:
    """One of the two sets.

    Attributes:
        classes: The number of classes.
        label_bytes: Bytes before the pixels; the last of them is the class.
        names: File of the class names beside the batches.
        batches: Files of each part.
        pickles: Names of the same batches in the form for Python.
    """

    classes: int
    label_bytes: int
    names: str
    batches: dict[Part, tuple[str, ...]]
    pickles: tuple[str, ...]


_FORMS = (
    _Form(
        classes=10,
        label_bytes=1,
        names="batches.meta.txt",
        batches={
            Part.TRAINING: tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            Part.HELD_OUT: ("test_batch.bin",),
        },
        pickles=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    ),
    _Form(
        classes=100,
        label_bytes=2,
        names="fine_label_names.txt",
        batches={Part.TRAINING: ("train.bin",), Part.HELD_OUT: ("test.bin",)},
        pickles=("train", "test"),
    ),
)


@dataclass(frozen=True)
class Batch:
    """One file of images.

    Attributes:
        pixels: uint8 ``(N, 32, 32, 3)``, mapped.
        labels: Class of each, uint8 ``(N,)``.
        class_names: Names of the classes; their indices where no file beside the batch names them.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]


def batches_in(folder: Path, part: Part) -> list[Path]:
    """The files of one part; none when the folder is not CIFAR.

    Raises:
        DataError: Batches are missing, or they are pickles.
    """
    for form in _FORMS:
        files = [folder / name for name in form.batches[part]]
        missing = [path.name for path in files if not path.is_file()]
        if not missing:
            return files
        if (folder / form.names).is_file():
            raise DataError(f"'{folder}' lacks {', '.join(missing)}; unpack the archive again")
        if all((folder / name).is_file() for name in form.pickles):
            raise _is_pickle(folder, form.classes)
    return []


def refuse_pickle(path: Path) -> None:
    """Refuses a batch in the form for Python; lets anything else pass.

    Raises:
        DataError: The file is a batch in the form for Python.
    """
    for form in _FORMS:
        if path.name in form.pickles:
            raise _is_pickle(path, form.classes)


def read_batch(path: Path) -> Batch:
    """Maps a batch; nothing of it is read but the labels.

    Raises:
        DataError: The file is truncated or not a batch, or the file of names does not fit it.
    """
    size = path.stat().st_size
    for form in _FORMS:
        record = form.label_bytes + _PIXELS
        if size and size % record == 0:
            records: npt.NDArray[Any] = np.memmap(path, np.uint8, "r").reshape(-1, record)
            labels = np.array(records[:, form.label_bytes - 1])
            if labels.max() < form.classes:
                planes = records[:, form.label_bytes :].reshape(-1, _CHANNELS, _SIDE, _SIDE)
                names = _class_names(path.with_name(form.names), form.classes)
                return Batch(planes.transpose(0, 2, 3, 1), labels, names)
    raise DataError(
        f"'{path}' is truncated or not a binary batch of CIFAR: {size} bytes are not a multiple "
        f"of {1 + _PIXELS} (CIFAR-10) or {2 + _PIXELS} (CIFAR-100), or a label is too large"
    )


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(str(index) for index in range(classes))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a text of class names ({error})") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != classes:
        raise DataError(f"'{path}' names {len(names)} classes, and the batches have {classes}")
    return names


def _is_pickle(path: Path, classes: int) -> DataError:
    return DataError(
        f"'{path}' is CIFAR as a Python pickle, which can run any code when it is read, so vitedge "
        f"does not read it; take the binary version: {_DOWNLOAD.format(classes=classes)}"
    )
