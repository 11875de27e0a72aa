"""Keeps other libraries' start-up notes off the terminal, and keeps their errors."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


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
