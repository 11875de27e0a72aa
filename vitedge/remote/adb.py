"""An Android device reached with the system's ``adb``; cables, networks and keys are adb's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.errors import UnavailableError, UsageError
from vitedge.remote.conversation import converse, last_line
from vitedge.remote.errors import ConnectionLost, RemoteError
from vitedge.terminal.printable import one_line

PREFIX = "adb:"
"""What the name of a host begins with that adb reaches."""

HOME = PurePosixPath("/data/local/tmp")
"""Where adb's user may write files and run them, on every Android device."""

# As `adb devices` lists them: serial numbers, addresses, names of services.
_SERIAL = re.compile(r"[\w.\[][\w.:%@()\[\]-]*", re.ASCII)
_FOLDER = re.compile(r"/[\w ./+,=-]*", re.ASCII)
_SECONDS_TO_ANSWER = 30.0

# A connection that breaks looks to adb as if the command had ended well.
_END = "vitedge-output-ends"
_MARKED = f'"$@"; printf "\\n%s %d\\n" {_END} "$?"'

_REMEDIES = {
    "unauthorized": "unlock its screen and allow USB debugging from this computer there",
    "authorizing": "unlock its screen and allow USB debugging from this computer there",
    "offline": "plug it in again, or run: adb reconnect offline",
    "no permissions": "your user may not use it: apt install android-sdk-platform-tools-common",
}


@dataclass(frozen=True)
class AdbDevice:
    """An Android device that adb knows; see ``Device``.

    Attributes:
        host: ``adb:`` and the serial number that ``adb devices`` lists.
        folder: A folder of it, from the root on.
    """

    host: str
    folder: PurePosixPath = HOME

    def __post_init__(self) -> None:
        if not _SERIAL.fullmatch(self.serial):
            raise UsageError(
                f"'{one_line(self.host)}' names no device; write adb: and the serial number that "
                "`adb devices` lists"
            )
        if not _FOLDER.fullmatch(str(self.folder)):
            raise UsageError(
                f"'{one_line(str(self.folder))}' is not a folder that can be named on an Android "
                f"device: write it from / on, such as {HOME}"
            )

    @property
    def serial(self) -> str:
        """The name that adb gives it."""
        return self.host.removeprefix(PREFIX)

    def check(self) -> None:
        """Makes sure that the device can be reached.

        Raises:
            ConnectionLost: The device cannot be reached; the message has adb's words and what to
                do.
            UnavailableError: There is no adb here.
        """
        code, output, errors = _asked([*self._adb(), "get-state"])
        if code == 0 and output.strip() == "device":
            return
        said = _first_error(errors) or one_line(output) or f"exit code {code}"
        known = [words for state, words in _REMEDIES.items() if state in said]
        remedy = known[0] if known else _listed()
        raise ConnectionLost(f"{self.host} cannot be reached: {said}; {remedy}")

    def run(
        self,
        command: Sequence[str | PurePosixPath],
        *,
        on_line: Callable[[str], None] | None = None,
        text: str | None = None,
    ) -> str:
        """See ``Device``."""
        quiet = ["-n"] if text is None else []
        program = [*self._adb(), "shell", *quiet]
        marked = ["sh", "-c", _MARKED, "sh", *command]
        lines: list[str] = []
        ending = _Ending(on_line or lines.append)
        follow = None if on_line is None else ending.take
        said = converse(program, marked, self.host, on_line=follow, text=text)
        if on_line is None:
            for line in said.output.split("\n"):
                ending.take(line)
        if ending.code is None:
            self.check()
            raise ConnectionLost(f"the connection to {self.host} broke while '{command[0]}' ran")
        if ending.code:
            words = last_line(said.errors) or last_line("\n".join(lines))
            raise RemoteError(
                f"'{command[0]}' failed on {self.host}: {words or f'exit code {ending.code}'}"
            )
        return "\n".join(lines)

    def copy(self, files: Iterable[Path], folder: PurePosixPath) -> None:
        """See ``Device``."""
        # From the root on: a name that begins with a dash would be an option.
        sources = [os.path.abspath(file) for file in files]
        code, output, errors = _asked([*self._adb(), "push", *sources, f"{folder}/"], None)
        if code:
            self.check()
            words = _first_error(f"{output}\n{errors}") or f"exit code {code}"
            raise ConnectionLost(f"copying to {self.host} failed: {words}")

    def _adb(self) -> list[str]:
        return [_adb(), "-s", self.serial]


class _Ending:
    """Passes the lines of a command on, up to the mark behind them.

    Attributes:
        code: The command's exit code; None as long as the mark has not come.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._has_empty = False
        self.code: int | None = None

    def take(self, line: str) -> None:
        """The next line. An empty one may belong to the mark, and is kept back until that shows."""
        mark, _, code = line.partition(" ")
        if mark == _END and code.isdecimal():
            self.code = int(code)
            return
        if self._has_empty:
            self._on_line("")
        self._has_empty = not line
        if line:
            self._on_line(line)


def _adb() -> str:
    found = shutil.which("adb")
    if found is None:
        raise UnavailableError("'adb' is not installed here", "Debian: apt install adb")
    return found


def _asked(
    command: Sequence[str], seconds: float | None = _SECONDS_TO_ANSWER
) -> tuple[int, str, str]:
    """Exit code and output of adb."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ConnectionLost(
            f"adb gave no answer within {seconds:.0f} s; run: adb kill-server"
        ) from error
    return done.returncode, done.stdout, done.stderr


def _first_error(errors: str) -> str:
    """The complaint of adb: advice follows it, and news of its server comes before it."""
    lines = [line.strip() for line in errors.splitlines()]
    found = (line for line in lines if line.startswith(("error:", "adb:")))
    return one_line(next(found, "").removeprefix("adb:").strip().removeprefix("error:").strip())


def _listed() -> str:
    """The devices that adb knows, in words."""
    _, output, _ = _asked([_adb(), "devices"])
    known = [line.split()[0] for line in output.splitlines() if "\t" in line]
    if known:
        return f"adb knows {one_line(', '.join(known))}"
    return (
        "adb knows no device: plug it in with USB debugging on (developer options), or run: adb "
        "connect HOST:PORT"
    )
