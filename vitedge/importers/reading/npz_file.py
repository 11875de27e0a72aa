"""NumPy's ``.npz`` files; arrays of objects, which would be unpickled, are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.files.npz_arrays import NPZ_DAMAGE, read_header, read_values
from vitedge.files.zip_members import is_zip
from vitedge.importers.reading.tensors import Tensors


def npz_names(path: Path) -> frozenset[str]:
    """Names of the arrays, without reading any; empty when it is not such a file."""
    if not is_zip(path):
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except NPZ_DAMAGE:
        return frozenset()
    return frozenset(name.removesuffix(".npy") for name in files if name.endswith(".npy"))


@contextmanager
def open_npz(path: Path) -> Iterator[Tensors]:
    """Opens a file.

    Raises:
        ModelError: The file is truncated, or holds objects instead of numbers.
    """
    try:
        archive = zipfile.ZipFile(path)
    except NPZ_DAMAGE as error:
        raise _damaged(path, error) from error

    def load(name: str) -> npt.NDArray[Any]:
        try:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as stream:
                return read_values(read_header(archive, member, stream), stream)
        except NPZ_DAMAGE as error:
            raise _damaged(path, error) from error

    with archive:
        try:
            shapes = {
                member.filename.removesuffix(".npy"): _shape(archive, member)
                for member in archive.infolist()
            }
        except NPZ_DAMAGE as error:
            raise _damaged(path, error) from error
        yield Tensors(str(path), shapes, load, held=path.stat().st_size)


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    with archive.open(member) as stream:
        header = read_header(archive, member, stream)
    if header.dtype.kind not in "fiu":
        raise ValueError(f"'{member.filename}' holds {header.dtype}, not numbers")
    return header.shape


def _damaged(path: Path, error: BaseException) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"'{path}' is truncated or not an .npz file ({reason})")
