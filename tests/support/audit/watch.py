"""Sees files being opened by whatever opens them: C++ code raises no audit events.

Linux tells by inotify, which Python reaches by ctypes alone.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000
_EVENT = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of a name, here none


class OpenWatch:
    """Tells which of some files any program opens.

    Args:
        files: Which, all of which exist.
    """

    works = sys.platform == "linux"
    """Whether this system tells; elsewhere nothing is ever seen."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._descriptor = -1
        self._files: dict[int, Path] = {}
        if not self.works:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_IN_NONBLOCK)
        for file in files:
            watch = libc.inotify_add_watch(self._descriptor, os.fsencode(file), _IN_OPEN)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"inotify cannot watch '{file}'")
            self._files[watch] = file

    def __enter__(self) -> OpenWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def opened(self) -> set[Path]:
        """Which of them were opened since the last call."""
        try:
            events = os.read(self._descriptor, 1 << 16) if self.works else b""
        except BlockingIOError:  # none
            return set()
        return {self._files[watch] for watch, *_ in _EVENT.iter_unpack(events)}
