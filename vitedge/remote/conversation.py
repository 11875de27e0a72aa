"""What a device says over ssh, bounded: it may be another's, broken, or have a talkative shell."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from vitedge.remote.errors import RemoteError

BEGINNING = "vitedge-output-begins"
"""The line before a command's own output: a ``.bashrc`` may greet whoever comes."""

# Characters. A report with all its thumbnails has a few million, and comes as one line.
_LONGEST_LINE = 64 << 20
_MOST_BEFORE_BEGINNING = 1 << 20
_MOST_ERRORS = 1 << 16
# A sign of life is an empty line every five seconds.
_EMPTY_LINES, _EMPTY_LINES_A_SECOND = 100, 2


class Conversation:
    """One command on a device.

    Args:
        process: ssh, with pipes that are text.
        host: The device, for messages.
    """

    def __init__(self, process: subprocess.Popen[str], host: str) -> None:
        self._process, self._host = process, host
        self._errors = ""

    def follow(self, text: str | None, on_line: Callable[[str], None]) -> str:
        """Talks until the command ends.

        Args:
            text: What it reads on stdin.
            on_line: Told each line of its output.

        Returns:
            The end of what it wrote to stderr.

        Raises:
            RemoteError: It says more than any command of ours.
        """
        threads = [threading.Thread(target=self._listen, daemon=True)]
        if text is not None:
            threads.append(threading.Thread(target=self._tell, args=(text,), daemon=True))
        for thread in threads:
            thread.start()
        for line in self._after_beginning():
            on_line(line)
        self._process.wait()
        for thread in threads:
            thread.join()
        return self._errors

    def collect(self, text: str | None) -> tuple[str, str]:
        """Talks until the command ends; all that it wrote to stdout, and the end of stderr."""
        lines: list[str] = []
        size = 0

        def keep(line: str) -> None:
            nonlocal size
            lines.append(line)
            size += len(line) + 1
            if size > _LONGEST_LINE:
                raise RemoteError(f"{self._host} talks without end")

        errors = self.follow(text, keep)
        return "\n".join(lines), errors

    def _after_beginning(self) -> Iterator[str]:
        """The command's own lines; all lines where no shell marked the beginning of them."""
        lines = self._lines()
        greeting: list[str] = []
        size = 0
        for line in lines:
            if line.strip() == BEGINNING:
                yield from lines
                return
            greeting.append(line)
            size += len(line) + 1
            if size > _MOST_BEFORE_BEGINNING:
                raise RemoteError(
                    f"{self._host} talks without end before it obeys; make its shell silent for "
                    "programs (~/.bashrc)"
                )
        yield from greeting

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        empty, since = 0, time.monotonic()
        while line := self._process.stdout.readline(_LONGEST_LINE):
            if len(line) >= _LONGEST_LINE:
                raise RemoteError(f"{self._host} sends a line without end")
            if line.strip():
                empty, since = 0, time.monotonic()
            else:
                empty += 1
                allowed = _EMPTY_LINES + _EMPTY_LINES_A_SECOND * (time.monotonic() - since)
                if empty > allowed:
                    raise RemoteError(f"{self._host} sends nothing but empty lines")
            yield line.rstrip("\r\n")

    def _listen(self) -> None:
        """Keeps the end of stderr; a full pipe that nobody reads would stop the device."""
        for part in _parts(self._process.stderr):
            self._errors = (self._errors + part)[-_MOST_ERRORS:]

    def _tell(self, text: str) -> None:
        stream = self._process.stdin
        assert stream is not None
        # A command may end without having read everything; its exit code says why.
        with suppress(OSError):
            stream.write(text)
        with suppress(OSError):
            stream.close()


def _parts(stream: IO[str] | None) -> Iterator[str]:
    assert stream is not None
    try:
        while part := stream.readline(_MOST_ERRORS):
            yield part
    except ValueError:  # closed, because the conversation was given up
        return
