"""vitedge on the device: a virtual environment of its own, made once and used again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitedge.artifacts.metadata import sha256_of
from vitedge.errors import UnavailableError, UsageError
from vitedge.files.temporary import temporary_folder
from vitedge.remote.device import Device
from vitedge.remote.errors import RemoteError
from vitedge.remote.wheel import write_wheel
from vitedge.targets.formats import Format
from vitedge.terminal.printable import one_line, printable
from vitedge.terminal.progress import Progress

# Runs with whatever Python 3 the device has. The stamp is written last: an interrupted installation
# is none, and pip goes on with what it has.
_INSTALL = """\
import os, subprocess, sys, venv
folder, wheel, extras, stamp, site = sys.argv[1:]
if sys.version_info < (3, 11):
    sys.exit('vitedge needs Python 3.11 or newer, this is ' + sys.version.split()[0])
home = os.path.join(folder, 'venv')
mark = os.path.join(home, 'vitedge-installed')
if os.path.exists(mark) and open(mark).read() == stamp:
    sys.exit()
python = os.path.join(home, 'bin', 'python')
try:
    if not os.path.exists(os.path.join(home, 'bin', 'pip')):
        venv.create(home, with_pip=True, system_site_packages=site == 'site')
except (subprocess.CalledProcessError, ImportError):
    sys.exit('its Python makes no virtual environments; there run: sudo apt install python3-venv')
if os.path.exists(mark):
    os.remove(mark)
pip = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
for part in ([wheel + '[' + extras + ']'], ['--no-deps', '--force-reinstall', wheel]):
    done = subprocess.run(pip + part, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode:
        sys.exit('pip: ' + (done.stderr.strip().splitlines() or ['failed'])[-1])
open(mark, 'w').write(stamp)
"""

# Prints the names that are missing, of files that are called by the digest of what they hold.
_MISSING = """\
import os, sys
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
print('\\n'.join(name for name in sys.argv[2:] if not os.path.exists(os.path.join(folder, name))))
"""


@dataclass(frozen=True)
class Installation:
    """vitedge as it is installed on a device.

    Attributes:
        device: The device to install on.
        python: The interpreter of its environment.
        digest: SHA-256 of the wheel.
    """

    device: Device
    python: PurePosixPath
    digest: str


def install(
    device: Device, formats: Iterable[Format], progress: Progress, *, sees_system: bool = False
) -> Installation:
    """Makes the environment, or takes the one that is there if it holds this very version.

    Args:
        device: The device to install on.
        formats: The formats whose runtimes it shall hold.
        progress: Told what is being done.
        sees_system: Whether it sees the system's packages, among them picamera2.

    Raises:
        UnavailableError: The device has no Python, one too old, or pip fails there.
        ConnectionLost: The device cannot be reached.
    """
    progress(f"{device.host}: connecting", 0, 0)
    extras = ",".join(sorted({each.record.extra for each in formats}))
    with temporary_folder("vitedge-wheel-") as folder:
        wheel = write_wheel(folder)
        digest = sha256_of(wheel)
        remote = device.folder / "wheels" / digest[:16]
        upload(device, [wheel], remote)
    progress(f"{device.host}: installing vitedge[{extras}]", 0, 0)
    stamp = hashlib.sha256(f"{digest} {extras}".encode()).hexdigest()
    kind = "site" if sees_system else "own"
    try:
        device.run(
            ["python3", "-", device.folder, remote / wheel.name, extras, stamp, kind],
            text=_INSTALL,
        )
    except RemoteError as error:
        raise UnavailableError(f"vitedge cannot be installed on {device.host}: {error}") from error
    return Installation(device, device.folder / "venv" / "bin" / "python", digest)


def upload(device: Device, files: Iterable[Path], folder: PurePosixPath) -> None:
    """Copies those files that the device does not have; a name stands for what the file holds.

    A copy that is cut off leaves no file behind that looks whole: it lands beside and is moved.
    """
    by_name = {path.name: path for path in files}
    for name in by_name:
        if printable(name) != name:
            raise UsageError(f"'{printable(name)}' cannot be copied by that name; rename the file")
    listed = device.run(["python3", "-", folder, *by_name], text=_MISSING)
    names = [name for name in listed.split("\n") if name]
    for name in names:
        if name not in by_name:
            raise RemoteError(f"{device.host} answers what it was not asked: {one_line(name)}")
    missing = [by_name[name] for name in names]
    if not missing:
        return
    arriving = folder / ".arriving"
    device.run(["mkdir", "-p", arriving])
    device.copy(missing, arriving)
    device.run(["mv", *(arriving / path.name for path in missing), folder])
