"""Files that appear whole or not at all.

What is being made lies in a hidden folder beside its destination, on the same file system, and is
moved in one step when it is complete. A process that dies leaves only that folder, which the next
run removes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vitedge.errors import UsageError, VitedgeError

_PREFIX = ".vitedge-"


def refuse_existing(paths: Iterable[Path], *, force: bool, streams: bool = False) -> None:
    """Checks, before any work is done, that nothing would be overwritten unasked.

    Args:
        paths: The files that are going to be written.
        force: Existing files may be overwritten.
        streams: A path may be a pipe, a terminal or another device that is written to in order.

    Raises:
        UsageError: A path exists and ``force`` is not set, or it is a folder or a device.
    """
    for path in paths:
        mode = _mode(path)
        if mode is None:
            if path.is_symlink() and not force:
                raise UsageError(f"'{path}' is a link to nothing; give --force to write there")
        elif stat.S_ISDIR(mode):
            raise UsageError(f"'{path}' is a folder; name a file")
        elif not stat.S_ISREG(mode):
            if not streams or not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
                raise UsageError(f"'{path}' is a device, a pipe or a socket; name a file")
        elif not force and _own_stream(path) is None:
            raise UsageError(f"'{path}' exists; give --force to overwrite it")


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """A hidden folder inside ``destination``, which is made if need be; gone afterwards.

    A destination that was made is removed again when nothing was put into it.

    Raises:
        VitedgeError: The disk refuses: full, read-only, no permission.
    """
    made: list[Path] = []
    try:
        made = made_folders(destination)
        _remove_stale(destination)
        folder = destination / f"{_PREFIX}{os.getpid()}"
        folder.mkdir()
    except OSError as error:
        remove_empty(made)
        raise _refusal(destination, error) from error
    try:
        yield folder
    except OSError as error:
        raise _refusal(destination, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(made)


def publish(staged: Iterable[Path], destination: Path) -> None:
    """Moves complete files out of a staging folder, the last one last.

    Where a file of that name is a symbolic link, the file that it leads to is replaced.
    """
    for path in staged:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        target = _followed(destination / path.name)
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The link leads to another file system, where the file has to be staged anew.
            with staging(target.parent) as near:
                shutil.copyfile(path, near / target.name)
                publish([near / target.name], target.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes one file so that it appears whole or not at all, over whatever was there.

    What is not a regular file (a pipe, a terminal, ``/dev/stdout``) is written to, not replaced.

    Raises:
        VitedgeError: The disk refuses.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if _is_stream(path):
            _write_to_stream(path, data)
            return
        path = _followed(path)
    except OSError as error:
        raise _refusal(path, error) from error
    with staging(path.parent) as folder:
        staged = folder / path.name
        staged.write_bytes(data)
        publish([staged], path.parent)


def made_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it.

    Returns:
        Those that were not there before, the innermost first.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, the innermost first, up to one that has something in it."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _mode(path: Path) -> int | None:
    """The kind of thing that a path leads to; None when it leads to nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:  # links that go round in circles, folders that may not be entered
        raise _refusal(path, error) from error


def _followed(path: Path) -> Path:
    """The path that a file's symbolic links lead to; the folders above it stay as they are."""
    return path.resolve() if path.is_symlink() else path


def _is_stream(path: Path) -> bool:
    mode = _mode(path)
    if mode is None or stat.S_ISDIR(mode):
        return False
    return not stat.S_ISREG(mode) or _own_stream(path) is not None


def _own_stream(path: Path) -> int | None:
    """The output of ours that a path is, such as ``/dev/stdout``, wherever that was redirected to.

    Named by its own name, a file that stdout was redirected to is an ordinary file.
    """
    if not path.is_symlink():
        return None
    for number in (1, 2):
        try:
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
        except OSError:
            continue
    return None


def _write_to_stream(path: Path, data: bytes) -> None:
    number = _own_stream(path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Opened anew, a file that stdout was redirected to would be written from its start.
    with path.open("wb", buffering=0) if number is None else os.fdopen(os.dup(number), "wb") as out:
        rest = memoryview(data)
        while rest:
            rest = rest[out.write(rest) or 0 :]


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
