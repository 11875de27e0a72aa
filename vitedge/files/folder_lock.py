"""A folder that one process at a time writes into."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitedge.errors import UsageError, VitedgeError
from vitedge.files.staging import made_folders, remove_empty

_FILE = ".lock"


@contextmanager
def only_writer(
    folder: Path, *, wait: bool = False, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Keeps other processes that ask for the same folder out, until the block ends.

    The system frees a lock whose process ends, in whatever way, so none is left behind. A folder
    that was made for it and is still empty in the end is removed.

    Args:
        folder: Made if it is not there.
        wait: Wait for the other process instead of giving up.
        on_wait: Told before waiting.

    Raises:
        UsageError: Another process has the folder.
        VitedgeError: The folder cannot be written.
    """
    made: list[Path] = []
    try:
        made = made_folders(folder)
        descriptor = _locked(folder, wait=False)
        if descriptor is None and wait:
            on_wait()
            descriptor = _locked(folder, wait=True)
    except OSError as error:
        remove_empty(made)
        raise VitedgeError(f"cannot write '{folder}': {error.strerror or error}") from error
    if descriptor is None:
        raise UsageError(
            f"another process writes into '{folder}'; wait for it, or give another folder"
        )
    try:
        yield
    finally:
        if sys.platform == "win32":
            os.close(descriptor)
            with suppress(OSError):  # another process has it now
                (folder / _FILE).unlink()
            remove_empty(made)
        else:
            remove_empty(made)
            os.close(descriptor)


def _locked(folder: Path, *, wait: bool) -> int | None:
    """An open file that holds the lock; None when another process has it."""
    while True:
        try:
            return _try(folder, wait)
        except FileNotFoundError:  # whoever had it removed the folder in the end: it was empty
            folder.mkdir(parents=True, exist_ok=True)


def _try(folder: Path, wait: bool) -> int | None:
    if sys.platform == "win32":
        import msvcrt

        descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    import fcntl

    operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    # The folder itself is locked, so that nothing is left in it; file systems over a network lock
    # only files that are open for writing.
    for path, flags in ((folder, os.O_RDONLY), (folder / _FILE, os.O_RDWR | os.O_CREAT)):
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, operation)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            raise FileNotFoundError(path)
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                return None
            if isinstance(error, FileNotFoundError) or path != folder:
                raise
    return None
