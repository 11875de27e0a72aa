"""Members of ZIP archives: their damage in one type of error, their size bounded before reading."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from vitedge.files.limits import JSON_TIMES, refuse_inflation, refuse_long_text

# What zipfile raises on damaged, encrypted or exotic archives.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def is_zip(path: Path) -> bool:
    """Whether a file ends as ZIP archives do, readable or not."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except ZIP_DAMAGE:  # such as an archive of several volumes
        return False


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The whole of a member.

    Raises:
        SizeError: The member inflates to more than the bound on sources.
        Exception: One of ``ZIP_DAMAGE``.
    """
    member = archive.getinfo(name)
    refuse_inflation(f"'{name}' in '{archive.filename}'", member.file_size, size_of(archive))
    return archive.read(member)


def read_text(archive: zipfile.ZipFile, name: str, *, times: int = JSON_TIMES) -> bytes:
    """The whole of a member that becomes objects.

    Args:
        archive: The archive.
        name: The name of the member.
        times: The memory of its objects, as a multiple of its length.

    Raises:
        SizeError: The member is too long for that.
        Exception: One of ``ZIP_DAMAGE``.
    """
    member = archive.getinfo(name)
    refuse_long_text(f"'{name}' in '{archive.filename}'", member.file_size, times=times)
    return archive.read(member)


def size_of(archive: zipfile.ZipFile) -> int:
    """Bytes of the archive itself."""
    if archive.filename is not None and Path(archive.filename).is_file():
        return os.stat(archive.filename).st_size
    stream: BinaryIO | None = archive.fp  # type: ignore[assignment]
    if stream is None:
        return 0
    before = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(before)
    return size
