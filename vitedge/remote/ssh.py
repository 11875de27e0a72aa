"""A device reached with the system's ``ssh`` and ``scp``; keys and ports are ssh's business."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.errors import UnavailableError, UsageError, VitedgeError

# Never ask for a password where nobody may answer, and notice within half a minute that the device
# or the network is gone.
_OPTIONS = (
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=4"),
)
# What ssh itself exits with when it fails; everything else is the command's own.
_SSH_FAILED = 255


class ConnectionLost(VitedgeError):  # noqa: N818  # what happened, in ssh's words
    """The device cannot be reached, or no longer."""


class RemoteError(VitedgeError):
    """A command on the device failed; the message holds the last line that it wrote."""


@dataclass(frozen=True)
class Device:
    """A machine and the folder on it that is ours.

    Attributes:
        host: What ``ssh`` takes: ``pi@raspberrypi.local``, or a name from its configuration.
        folder: Where everything goes; relative to the home folder unless absolute.
    """

    host: str
    folder: PurePosixPath

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or any(c.isspace() for c in self.host):
            raise UsageError(f"'{self.host}' is not a host; write pi@raspberrypi.local")

    def run(
        self,
        command: Sequence[str | PurePosixPath],
        *,
        on_line: Callable[[str], None] | None = None,
        text: str | None = None,
    ) -> str:
        """Runs a command in ``folder``'s parent, which is the home folder unless absolute.

        Args:
            command: Program and arguments; quoted here.
            on_line: Told each line of its output as it comes.
            text: What it reads on stdin.

        Returns:
            All of its output.

        Raises:
            ConnectionLost: ssh failed.
            RemoteError: The command failed.
            UnavailableError: There is no ssh here.
        """
        line = " ".join(shlex.quote(str(part)) for part in command)
        process = subprocess.Popen(
            [_tool("ssh"), *_OPTIONS, self.host, "--", line],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                if on_line is None:
                    output, errors = process.communicate(text)
                else:
                    output, errors = _follow(process, on_line)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise self._failure(process.returncode, str(command[0]), errors)
        return output

    def copy(self, files: Iterable[Path], folder: PurePosixPath) -> None:
        """Copies files into a folder of the device.

        Raises:
            ConnectionLost: scp failed: no connection, no space.
            UnavailableError: There is no scp here.
        """
        command = [_tool("scp"), "-q", *_OPTIONS, *map(str, files), f"{self.host}:{folder}/"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConnectionLost(
                f"copying to {self.host} failed: {_last_line(done.stderr) or 'scp gave no reason'}"
            )

    def _failure(self, code: int, program: str, errors: str) -> VitedgeError:
        words = _last_line(errors)
        if code == _SSH_FAILED:
            return ConnectionLost(f"{self.host} cannot be reached: {words or 'ssh gave no reason'}")
        return RemoteError(f"'{program}' failed on {self.host}: {words or f'exit code {code}'}")


def _follow(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> tuple[str, str]:
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        on_line(line.rstrip("\n"))
    # What ssh and the device's programs say when they fail fits into the pipe.
    errors = process.stderr.read() if process.stderr is not None else ""
    process.wait()
    return "".join(lines), errors


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(
            f"'{name}' is not installed here", "Debian: apt install openssh-client"
        )
    return found
