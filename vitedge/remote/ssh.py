"""A device reached with the system's ``ssh`` and ``scp``; keys and ports are ssh's business."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.errors import UnavailableError, UsageError, VitedgeError
from vitedge.remote.adb import PREFIX as ADB
from vitedge.remote.conversation import converse, last_line
from vitedge.remote.errors import ConnectionLost, RemoteError
from vitedge.terminal.printable import one_line

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


# An address of IPv6, or a name; neither it nor a user begins with a dash, which would be an option.
_HOST = re.compile(r"(\w[\w.+-]*@)?(\w[\w.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?)")
# Older versions of scp hand the folder to a shell, newer ones do not, so nothing can be quoted.
_FOLDER = re.compile(r"[\w./][\w ./+,=-]*")


@dataclass(frozen=True)
class SshDevice:
    """A machine that ssh reaches; see ``Device``.

    Attributes:
        host: The host, as ``ssh`` takes it: ``pi@raspberrypi.local``, or a name from its
            configuration.
        folder: The folder for everything; relative to the home folder unless absolute.
    """

    host: str
    folder: PurePosixPath

    def __post_init__(self) -> None:
        if self.host.startswith(ADB):
            raise UsageError(
                f"'{one_line(self.host)}' is an Android device, which ssh does not reach: vitedge "
                "bench --host measures on it, and a site of vitedge deploy --web opens there"
            )
        if not _HOST.fullmatch(self.host):
            raise UsageError(
                f"'{one_line(self.host)}' is not a host; write pi@raspberrypi.local, or give it a "
                "name in ssh's configuration"
            )
        if not _FOLDER.fullmatch(str(self.folder)):
            raise UsageError(
                f"'{one_line(str(self.folder))}' is not a folder that can be named on a device: "
                "take letters, digits, spaces and ._+,/=- for it, relative to the home folder or "
                "from /"
            )

    def run(
        self,
        command: Sequence[str | PurePosixPath],
        *,
        on_line: Callable[[str], None] | None = None,
        text: str | None = None,
    ) -> str:
        """See ``Device``; from the home folder on."""
        program = [_tool("ssh"), *_OPTIONS, self.host, "--"]
        ended = converse(program, command, self.host, on_line=on_line, text=text)
        if ended.code:
            raise self._failure(ended.code, str(command[0]), ended.errors)
        return ended.output

    def copy(self, files: Iterable[Path], folder: PurePosixPath) -> None:
        """See ``Device``."""
        # From the root on: a name that begins with a dash would be an option, and one with a colon
        # a host.
        sources = [os.path.abspath(file) for file in files]
        user, at, name = self.host.rpartition("@")
        place = f"{user}{at}[{name}]" if ":" in name else self.host
        command = [_tool("scp"), "-q", *_OPTIONS, "--", *sources, f"{place}:{folder}/"]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise ConnectionLost(
                f"copying to {self.host} failed: {last_line(done.stderr) or 'scp gave no reason'}"
            )

    def _failure(self, code: int, program: str, errors: str) -> VitedgeError:
        words = last_line(errors)
        if code == _SSH_FAILED:
            return ConnectionLost(f"{self.host} cannot be reached: {words or 'ssh gave no reason'}")
        return RemoteError(f"'{program}' failed on {self.host}: {words or f'exit code {code}'}")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(
            f"'{name}' is not installed here", "Debian: apt install openssh-client"
        )
    return found
