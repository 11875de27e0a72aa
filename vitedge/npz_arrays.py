"""Arrays of an ``.npz``, on disk where they can stay there; pickles are never read."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError


def read_arrays(path: Path, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Those of the named arrays that the file has.

    What NumPy saved uncompressed is memory-mapped; what it compressed is read whole.

    Raises:
        DataError: The file is truncated, no ``.npz``, or an array holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _read_member(path, archive, member)
                for member in archive.infolist()
                if member.filename.removesuffix(".npy") in names
            }
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DataError(f"'{path}' is truncated or not an .npz file ({error})") from error


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Memory-maps an array that is stored as it is, reads one that is compressed; no pickles."""
    with archive.open(member) as stream:
        if member.compress_type != zipfile.ZIP_STORED:
            array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"unknown .npy version {version}")
        shape, fortran, dtype = read_header(stream)
        header_length = stream.tell()
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    with path.open("rb") as file:
        # The local header's name and extra field end where the data begin (APPNOTE.TXT 4.3.7).
        file.seek(member.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    offset = member.header_offset + 30 + lengths + header_length
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
