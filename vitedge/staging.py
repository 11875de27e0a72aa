"""Files that appear whole or not at all.

What is being made lies in a hidden folder beside its destination, on the same file system, and is
moved in one step when it is complete. A process that dies leaves only that folder, which the next
run removes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vitedge.errors import UsageError, VitedgeError

_PREFIX = ".vitedge-"


def refuse_existing(paths: Iterable[Path], *, force: bool) -> None:
    """Checks, before any work is done, that nothing would be overwritten unasked.

    Raises:
        UsageError: A path exists and ``force`` is not set, or it is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder; name a file")
        if path.exists() and not force:
            raise UsageError(f"'{path}' exists; give --force to overwrite it")


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """A hidden folder inside ``destination``, which is made if need be; gone afterwards.

    Raises:
        VitedgeError: The disk refuses: full, read-only, no permission.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        _remove_stale(destination)
        folder = destination / f"{_PREFIX}{os.getpid()}"
        folder.mkdir()
    except OSError as error:
        raise _refusal(destination, error) from error
    try:
        yield folder
    except OSError as error:
        raise _refusal(destination, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staged: Iterable[Path], destination: Path) -> None:
    """Moves complete files out of a staging folder, the last one last."""
    for path in staged:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.replace(destination / path.name)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes one file so that it appears whole or not at all, over whatever was there.

    Raises:
        VitedgeError: The disk refuses.
    """
    with staging(path.parent) as folder:
        staged = folder / path.name
        staged.write_bytes(content.encode() if isinstance(content, str) else content)
        publish([staged], path.parent)


def _refusal(destination: Path, error: OSError) -> VitedgeError:
    return VitedgeError(f"cannot write into '{destination}': {error.strerror or error}")


def _remove_stale(destination: Path) -> None:
    """Removes what dead processes left."""
    for folder in destination.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX)
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # our own number on an old folder is a recycled one
