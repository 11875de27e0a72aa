"""The operations on a device, however it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol


class Device(Protocol):
    """A machine elsewhere, and the folder on it that is ours.

    Some devices are reached with ssh, others with adb; what follows a bench there, or installs
    something, needs to know no more than this.
    """

    @property
    def host(self) -> str:
        """A person's name for it, for messages."""

    @property
    def folder(self) -> PurePosixPath:
        """The folder of everything."""

    def run(
        self,
        command: Sequence[str | PurePosixPath],
        *,
        on_line: Callable[[str], None] | None = None,
        text: str | None = None,
    ) -> str:
        """Runs a command.

        Args:
            command: Program and arguments, which no shell changes.
            on_line: Told each line of its output as it comes.
            text: The text that it reads on stdin.

        Returns:
            All of its output, empty with ``on_line``. What the device's shell says before it obeys
            is left out.

        Raises:
            ConnectionLost: The device is out of reach.
            RemoteError: The command failed, or says more than any command of ours.
            UnavailableError: The program that reaches such devices is not here.
        """

    def copy(self, files: Iterable[Path], folder: PurePosixPath) -> None:
        """Copies files into a folder of the device.

        Raises:
            ConnectionLost: The device is out of reach, or has no space.
            UnavailableError: The program that reaches such devices is not here.
        """
