"""A device's answers, bounded: it may be another's, broken, or have a talkative shell."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from vitedge.remote.errors import RemoteError
from vitedge.terminal.printable import one_line

BEGINNING = "vitedge-output-begins"
"""The line before a command's own output: a ``.bashrc`` may greet whoever comes."""

# Characters. A report with all its thumbnails has a few million, and comes as one line.
_LONGEST_LINE = 64 << 20
_MOST_BEFORE_BEGINNING = 1 << 20
_MOST_ERRORS = 1 << 16
# A sign of life is an empty line every five seconds.
_EMPTY_LINES, _EMPTY_LINES_A_SECOND = 100, 2


@dataclass(frozen=True)
class Ended:
    """The end of a command on a device.

    Attributes:
        code: Exit code of the program that reached the device, which is the command's own where
            that program did not fail.
        output: All of the command's output; empty where somebody was told each line.
        errors: The end of what it wrote to stderr.
    """

    code: int
    output: str
    errors: str


def converse(
    program: Sequence[str],
    command: Sequence[str | PurePosixPath],
    host: str,
    *,
    on_line: Callable[[str], None] | None,
    text: str | None,
) -> Ended:
    """Runs a command on a device.

    Args:
        program: The program that reaches the device and hands its last argument to a shell there.
        command: Program and arguments; quoted here.
        host: The device, for messages.
        on_line: Told each line of the output.
        text: The text that the command reads on stdin.

    Raises:
        RemoteError: The device says more than any command of ours.
    """
    line = " ".join(shlex.quote(str(part)) for part in command)
    process = subprocess.Popen(
        [*program, f"echo {BEGINNING}; {line}"],
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        try:
            conversation, output = Conversation(process, host), ""
            if on_line is None:
                output, errors = conversation.collect(text)
            else:
                errors = conversation.follow(text, on_line)
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, output, errors)


def last_line(text: str) -> str:
    """The last line that is not empty, printable; empty where there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


class Conversation:
    """One command on a device.

    Args:
        process: The process that reaches the device, with pipes that are text.
        host: The device, for messages.
    """

    def __init__(self, process: subprocess.Popen[str], host: str) -> None:
        self._process, self._host = process, host
        self._errors = ""

    def follow(self, text: str | None, on_line: Callable[[str], None]) -> str:
        """Talks until the command ends.

        Args:
            text: The text that it reads on stdin.
            on_line: Told each line of its output.

        Returns:
            The end of what it wrote to stderr.

        Raises:
            RemoteError: The command says more than any command of ours.
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
                    raise RemoteError(f"{self._host} sends only empty lines")
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
