"""A device reached with the system's ``ssh`` and ``scp``; keys and ports are ssh's business."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.errors import UnavailableError, UsageError, VitedgeError
from vitedge.remote.conversation import BEGINNING, Conversation
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
class Device:
    """A machine and the folder on it that is ours.

    Attributes:
        host: What ``ssh`` takes: ``pi@raspberrypi.local``, or a name from its configuration.
        folder: Where everything goes; relative to the home folder unless absolute.
    """

    host: str
    folder: PurePosixPath

    def __post_init__(self) -> None:
        if self.host.startswith("adb:"):
            raise UsageError(
                f"vitedge does not measure over adb, and '{one_line(self.host)}' is an Android "
                "device; leave a site with vitedge deploy --web, open it there, and it shows its "
                "milliseconds"
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
        """Runs a command in ``folder``'s parent, which is the home folder unless absolute.

        Args:
            command: Program and arguments; quoted here.
            on_line: Told each line of its output as it comes.
            text: What it reads on stdin.

        Returns:
            All of its output, empty with ``on_line``. What the device's shell says before it obeys
            is left out.

        Raises:
            ConnectionLost: ssh failed.
            RemoteError: The command failed, or says more than any command of ours.
            UnavailableError: There is no ssh here.
        """
        line = " ".join(shlex.quote(str(part)) for part in command)
        process = subprocess.Popen(
            [_tool("ssh"), *_OPTIONS, self.host, "--", f"echo {BEGINNING}; {line}"],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        with process:
            try:
                conversation, output = Conversation(process, self.host), ""
                if on_line is None:
                    output, errors = conversation.collect(text)
                else:
                    errors = conversation.follow(text, on_line)
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
                f"copying to {self.host} failed: {_last_line(done.stderr) or 'scp gave no reason'}"
            )

    def _failure(self, code: int, program: str, errors: str) -> VitedgeError:
        words = _last_line(errors)
        if code == _SSH_FAILED:
            return ConnectionLost(f"{self.host} cannot be reached: {words or 'ssh gave no reason'}")
        return RemoteError(f"'{program}' failed on {self.host}: {words or f'exit code {code}'}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(
            f"'{name}' is not installed here", "Debian: apt install openssh-client"
        )
    return found
