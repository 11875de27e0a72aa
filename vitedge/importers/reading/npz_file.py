"""NumPy's ``.npz`` files; arrays of objects, which would be unpickled, are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.importers.reading.keras_archive import ZIP_DAMAGE
from vitedge.importers.reading.tensors import Tensors

_DAMAGE = (*ZIP_DAMAGE, SyntaxError, TypeError, MemoryError, IndexError)


def npz_names(path: Path) -> frozenset[str]:
    """Names of the arrays, without reading any; empty when it is no such file."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except ZIP_DAMAGE:
        return frozenset()
    return frozenset(name.removesuffix(".npy") for name in files if name.endswith(".npy"))


@contextmanager
def open_npz(path: Path) -> Iterator[Tensors]:
    """Opens a file.

    Raises:
        ModelError: It is truncated, or holds objects instead of numbers.
    """
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_DAMAGE as error:
        raise _damaged(path, error) from error

    def load(name: str) -> npt.NDArray[Any]:
        try:
            with archive.open(f"{name}.npy") as stream:
                array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
        except _DAMAGE as error:
            raise _damaged(path, error) from error

    with archive:
        try:
            shapes = {
                name: _shape(archive, name)
                for name in (entry.removesuffix(".npy") for entry in archive.namelist())
            }
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        yield Tensors(str(path), shapes, load)


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"'{name}' holds {dtype}, not numbers")
    return shape


def _damaged(path: Path, error: BaseException) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"'{path}' is truncated or not an .npz file ({reason})")
