"""The wheel of this very version, made from the files that are running.

A device must run what was tested here, not what an index happens to hold under the same number.
vitedge is Python and data only, so its files and its metadata are all there is to pack; no build
tool is needed, and it works from a wheel's installation as from an editable one.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from vitedge.errors import VitedgeError

_PACKAGE = "vitedge"
_TAG = "py3-none-any"
# The earliest that a zip file knows: equal files make equal wheels.
_TIME = (1980, 1, 1, 0, 0, 0)
# The example app travels along, so that `vitedge deploy` has one to leave on the device.
_APP = "vitedge/remote/app"


def write_wheel(folder: Path) -> Path:
    """Packs this version; the same files always make the same bytes.

    Returns:
        The wheel, named by its version, inside ``folder``.

    Raises:
        VitedgeError: vitedge was never installed, so its requirements are unknown.
    """
    try:
        installed = distribution(_PACKAGE)
    except PackageNotFoundError as error:
        raise VitedgeError(
            "vitedge is run from a folder that was never installed, so no wheel can be made of it; "
            "run: pip install --editable ."
        ) from error
    contents = dict(_package_files()) | _metadata_files(installed)
    record = f"{_PACKAGE}-{installed.version}.dist-info/RECORD"
    lines = [
        f"{name},sha256={_digest(content)},{len(content)}" for name, content in contents.items()
    ]
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    path = folder / f"{_PACKAGE}-{installed.version}-{_TAG}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    return path


def app_files() -> dict[str, Path]:
    """The example app by file name, beside this module or in the checkout that it runs from.

    Raises:
        VitedgeError: The app is in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (Path(__file__).parent / "app", package.parent / "examples" / "raspberry_pi"):
        if folder.is_dir():
            return {each.name: each for each in sorted(folder.iterdir()) if each.is_file()}
    raise VitedgeError("the example app is missing from this installation; install vitedge again")


def _package_files() -> Iterator[tuple[str, bytes]]:
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package.parent)
        if path.is_file() and "__pycache__" not in inside.parts:
            yield inside.as_posix(), path.read_bytes()
    for name, path in app_files().items():
        yield f"{_APP}/{name}", path.read_bytes()


def _metadata_files(installed: Distribution) -> dict[str, bytes]:
    folder = f"{_PACKAGE}-{installed.version}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: vitedge\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
    return {
        f"{folder}/METADATA": (installed.read_text("METADATA") or "").encode(),
        f"{folder}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
        f"{folder}/WHEEL": wheel.encode(),
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
