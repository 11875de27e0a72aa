"""A folder that one process at a time writes into."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vitedge.errors import UsageError, VitedgeError

_FILE = ".lock"


@contextmanager
def only_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes that ask for the same folder out, until the block ends.

    The system frees a lock whose process ends, in whatever way, so none is left behind.

    Args:
        folder: Made if it is not there.
        wait: Wait for the other process instead of giving up.

    Raises:
        UsageError: Another process has the folder.
        VitedgeError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / _FILE).open("a")
    except OSError as error:
        raise VitedgeError(f"cannot write '{folder}': {error.strerror or error}") from error
    with stream:
        if not _locked(stream, wait):
            raise UsageError(
                f"another process writes into '{folder}'; wait for it, or give another folder"
            )
        yield


def _locked(stream: TextIO, wait: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
