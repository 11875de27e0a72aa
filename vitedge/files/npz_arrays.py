"""Arrays of an ``.npz``, on disk where they can stay there; pickles are never read."""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.files.json_values import shown
from vitedge.files.limits import refuse_inflation
from vitedge.files.zip_members import ZIP_DAMAGE, size_of

NPZ_DAMAGE = (*ZIP_DAMAGE, TypeError, MemoryError)
"""What damaged files make zipfile, NumPy and the functions below raise."""


@dataclass(frozen=True)
class ArrayHeader:
    """The description of its array in a ``.npy`` file.

    Attributes:
        shape: Its shape.
        fortran: Whether its first axis varies fastest.
        dtype: Never of Python objects.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def read_arrays(path: Path, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """The named arrays that the file has.

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
    except NPZ_DAMAGE as error:
        reason = " ".join(str(error).split())
        raise DataError(f"'{path}' is truncated or not an .npz file ({reason})") from error


def read_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, stream: IO[bytes]
) -> ArrayHeader:
    """Reads the header of an array and leaves the stream behind it.

    Args:
        archive: The archive.
        member: Its member that holds the array.
        stream: That member, opened.

    Raises:
        ValueError: The member is not an array, holds Python objects, or is longer or shorter than
            its array.
        SizeError: The array inflates to more than the bound on sources.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"unknown .npy version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
    except (SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError("the header of an array is damaged") from error
    if dtype.hasobject:
        raise ValueError(
            f"'{member.filename}' holds {dtype}, not numbers: an array of Python objects"
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shown(shape)}")
    length = math.prod(shape) * dtype.itemsize
    if length != member.file_size - stream.tell():
        raise ValueError(
            f"an array of shape {shown(shape)} in {member.file_size - stream.tell()} bytes"
        )
    refuse_inflation(f"'{member.filename}' in '{archive.filename}'", length, size_of(archive))
    return ArrayHeader(shape, fortran, dtype)


def read_values(header: ArrayHeader, stream: IO[bytes]) -> npt.NDArray[Any]:
    """Reads the array behind a header."""
    values = np.frombuffer(stream.read(), header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Memory-maps an array that is stored as it is, reads one that is compressed; no pickles."""
    with archive.open(member) as stream:
        header = read_header(archive, member, stream)
        header_length = stream.tell()
        if member.compress_type != zipfile.ZIP_STORED:
            return read_values(header, stream)
    with path.open("rb") as file:
        # The local header's name and extra field end where the data begin (APPNOTE.TXT 4.3.7).
        file.seek(member.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    offset = member.header_offset + 30 + lengths + header_length
    if not math.prod(header.shape):
        return np.zeros(header.shape, header.dtype)
    order: Literal["F", "C"] = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, "r", offset, header.shape, order)
