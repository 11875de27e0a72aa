"""Folders for what is needed for a while, on a disk that may be full."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vitedge.errors import VitedgeError


@contextmanager
def temporary_folder(prefix: str = "vitedge-") -> Iterator[Path]:
    """A folder that is gone afterwards.

    Raises:
        VitedgeError: No temporary folder can be written, or what goes into it does not fit.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    except OSError as error:
        told = machine_fault(error)
        if told is None:
            raise
        raise VitedgeError(told) from error


def machine_fault(error: OSError) -> str | None:
    """The words for a fault of the machine, not of a file; None when there is none."""
    where = f"'{error.filename}'" if error.filename else "a file"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return (
                f"there is no room left for {where}: {error.strerror}; free some, or set TMPDIR, "
                f"which is '{_temporary()}', to a folder with more"
            )
        case errno.EFBIG:
            return f"{where} is larger than files may be here: raise the limit (ulimit -f)"
        case errno.EMFILE | errno.ENFILE:
            return f"too many files are open to open {where}: raise the limit (ulimit -n)"
        case errno.ENOMEM:
            return "there is not enough memory: free some, or raise the limit on it (ulimit -v)"
        case errno.EIO | errno.EROFS:
            return f"{where} cannot be read or written: {error.strerror}"
        case errno.ENOENT if "temporary directory" in str(error):
            return f"{error.strerror}: set TMPDIR to a folder that can be written"
        case _:
            return None


def demand_room(folder: Path, sizes: Sequence[int]) -> None:
    """Makes sure that files of so many bytes can be written; for libraries that crash when not.

    Raises:
        OSError: The files cannot be written: the disk is full, or files may not be so large.
    """
    if not hasattr(os, "posix_fallocate"):
        return  # macOS and Windows
    with ExitStack() as files:
        for size in sizes:
            file = files.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, size)


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "")
