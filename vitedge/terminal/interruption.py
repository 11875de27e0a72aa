"""Ctrl-C that ends a process within seconds, whatever an engine is doing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# 128 and the number of SIGINT, as shells have it.
INTERRUPTED = 130

# Enough to write an epoch's state, which is whole or absent in any case.
_GRACE_SECONDS = 2.0

_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"


@contextmanager
def ending_soon(
    last_words: Callable[[], None], *, grace_seconds: float = _GRACE_SECONDS
) -> Iterator[None]:
    """Makes Ctrl-C end the process inside the block: as usual, or by force after some seconds.

    Python raises ``KeyboardInterrupt`` between two of its own instructions, and one step of an
    engine may take half a minute; then threads of the engine are waited for. So a thread of ours is
    told of the signal at once. Further Ctrl-Cs change nothing: they would break what cleans up.

    Args:
        last_words: Says what is kept; called once, from any thread.
        grace_seconds: The time that the block has to end by itself.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(last_words, grace_seconds)
    before = signal.signal(signal.SIGINT, watch.interrupt)
    wakeup = signal.set_wakeup_fd(watch.told.fileno(), warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    finally:
        if watch.was_interrupted:
            watch.leave()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)
        watch.stop()


class _Watch:
    """The thread that waits for the signal."""

    def __init__(self, last_words: Callable[[], None], grace_seconds: float) -> None:
        self._last_words, self._grace_seconds = last_words, grace_seconds
        self._hears, self.told = socket.socketpair()  # a pipe is no wakeup descriptor on Windows
        self.told.setblocking(False)
        self._leaving = threading.Lock()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self.was_interrupted = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.told.close()
        self._thread.join()
        self._hears.close()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler that Python calls in the main thread, once that runs Python again."""
        if not self.was_interrupted:
            self.was_interrupted = True
            raise KeyboardInterrupt

    def leave(self) -> None:
        """Says the last words and ends the process."""
        self._leaving.acquire()  # never released: whoever comes second waits for the end
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)
        self._last_words()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    def _wait(self) -> None:
        while signals := self._hears.recv(64):
            if signal.SIGINT in signals:
                threading.Event().wait(self._grace_seconds)
                self.leave()
