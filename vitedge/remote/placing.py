"""Moves what has arrived on a device into place; it is sent there unchanged and needs no package.

A file of the app that the maker has changed since it was left there is the maker's: its digest is
not the one that was noted. It is printed, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import sys
from pathlib import Path

_NOTED = ".vitedge-app.json"


def main(folder: Path, arrived: Path, artifacts: list[str]) -> None:
    """Places everything.

    Args:
        folder: The app's.
        arrived: The folder of the copied files, on the same file system.
        artifacts: Names of the files that are the artefact; the first is what is run.
    """
    noted = folder / _NOTED
    known = json.loads(noted.read_text("utf-8")) if noted.exists() else {}
    for here in sorted(arrived.iterdir()):
        there = folder / here.name
        if here.name not in artifacts:
            if here.suffix == ".service":
                here.write_text(filled(here.read_text("utf-8"), folder, artifacts[0]), "utf-8")
            fresh = _digest(here)
            if there.exists() and _digest(there) not in (known.get(here.name), fresh):
                print(here.name)
                continue
            known[here.name] = fresh
        os.replace(here, there)
    noted.write_text(json.dumps(known), "utf-8")


def filled(unit: str, folder: Path, artifact: str) -> str:
    """A systemd unit with this user, this folder and this artefact, which it wants written out."""
    user = pwd.getpwuid(os.getuid()).pw_name
    # Within quotes systemd reads escapes, and everywhere it reads specifiers after a percent sign.
    artifact = artifact.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    place = str(folder.resolve()).replace("%", "%%")
    return "\n".join(
        line
        if line.startswith("#")
        else line.replace("User=pi", f"User={user}")
        .replace("model.int8.tflite", artifact)
        .replace("/home/pi/vitedge-camera", place)
        for line in unit.split("\n")
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
