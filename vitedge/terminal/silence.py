"""Keeps other libraries' start-up notes off the terminal, and keeps their errors."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STDOUT, _STDERR = 1, 2


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what C++ code writes to stderr; lets it out when the block fails.

    TensorFlow and LiteRT write their notes to the file descriptor before any log level is read,
    so nothing less than the descriptor stops them. Not for long work: what this process itself
    reports meanwhile is held back too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    saved = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            held.seek(0)
            os.write(_STDERR, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            os.close(saved)


@contextmanager
def stdout_on_stderr() -> Iterator[None]:
    """Sends what C code prints meanwhile to stderr: stdout is for results."""
    sys.stdout.flush()
    saved = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        yield
    finally:
        if os.name == "posix":
            # A pipe is written when C's buffer is full, which may be after this.
            ctypes.CDLL(None).fflush(None)
        os.dup2(saved, _STDOUT)
        os.close(saved)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collects the lines that C++ code writes to stderr, once the block has ended.

    Some drivers return a bare failure, or none, and only log why. Where stderr is a file that can
    be read, it is read afterwards and nothing is redirected: the last words of a process that is
    aborted are then still where its parent looks for them.
    """
    lines: list[str] = []
    sys.stderr.flush()
    if _is_readable_file(_STDERR):
        start = os.fstat(_STDERR).st_size
        try:
            yield lines
        finally:
            sys.stderr.flush()
            length = os.fstat(_STDERR).st_size - start
            lines += os.pread(_STDERR, length, start).decode("utf-8", "replace").splitlines()
        return
    saved = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            os.close(saved)
            held.seek(0)
            lines += held.read().decode("utf-8", "replace").splitlines()


def _is_readable_file(descriptor: int) -> bool:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    try:
        os.pread(descriptor, 0, 0)
    except OSError:  # open for writing only
        return False
    return True
