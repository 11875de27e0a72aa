"""An artefact, an environment and the example app on a device, ready to run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.artifacts.metadata import files_of, format_of, read_metadata, sha256_of
from vitedge.errors import ModelError, UsageError
from vitedge.remote.installation import install
from vitedge.remote.ssh import SshDevice
from vitedge.remote.wheel import app_files
from vitedge.terminal.progress import Progress, silent

_PLACING = Path(__file__).with_name("placing.py")


@dataclass(frozen=True)
class Deployed:
    """The files that were left, and where.

    Attributes:
        host: The device.
        folder: The folder on it.
        command: The command to run there.
        kept: Files of the app that were changed there and left alone.
    """

    host: str
    folder: str
    command: str
    kept: tuple[str, ...]


def deploy(artifact: Path, destination: str, *, progress: Progress = silent) -> Deployed:
    """Makes an app on a device: its environment, its files, the artefact.

    Args:
        artifact: A file that vitedge wrote.
        destination: ``host:folder``; the folder is made, and relative to the home folder.
        progress: Told what is being done.

    Raises:
        UsageError: The destination is not a ``host:folder``, or the artefact names nothing.
        ModelError: The artefact is missing, or says nothing of its preprocessing.
        ConnectionLost: The device cannot be reached.
        UnavailableError: vitedge cannot be installed there.
    """
    host, colon, folder = destination.rpartition(":")
    if not colon or not folder:
        raise UsageError(f"'{destination}' is not host:folder; write pi@raspberrypi.local:camera")
    metadata = read_metadata(artifact)
    if metadata is None:
        raise ModelError(
            f"'{artifact}' does not say how images are prepared; vitedge must write it"
        )
    if not metadata.task.has_logits:
        raise UsageError(
            f"'{artifact}' gives {metadata.task.words}, and the app names what a camera sees: "
            "install vitedge there and call vitedge.load"
        )
    device = SshDevice(host, PurePosixPath(folder))
    # The app sees the system's packages: picamera2 comes with the device, not from an index.
    install(device, [format_of(artifact)], progress, sees_system=True)
    progress(f"{host}: copying {artifact.name} and the app", 0, 0)
    files = [*files_of(artifact), *app_files().values()]
    arrived = device.folder / f".arriving-{sha256_of(artifact)[:16]}"
    device.run(["mkdir", "-p", arrived])
    device.copy(files, arrived)
    artifacts = [path.name for path in files_of(artifact)]
    placing = _PLACING.read_text("utf-8")
    kept = device.run(["python3", "-", device.folder, arrived, *artifacts], text=placing).split()
    device.run(["rm", "-rf", arrived])
    command = f"cd {shlex.quote(folder)} && venv/bin/python app.py {shlex.quote(artifact.name)}"
    return Deployed(host, folder, command, tuple(kept))
