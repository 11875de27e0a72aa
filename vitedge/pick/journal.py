"""The artefacts that an interrupted pick has made already, so that it is not made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import files_of
from vitedge.errors import DataError
from vitedge.files.json_values import parse_object
from vitedge.files.staging import write_whole
from vitedge.images.image_digests import digest_of
from vitedge.images.image_sets import ImageSet
from vitedge.importers import ImportOptions
from vitedge.pipeline.verified_write import versions_of

_FILE = "made.json"
_NO_CONTENT = ("images", "warn")  # of import options: they change nothing that is made


class Journal:
    """The artefacts that were made of each model, by the digests of their files.

    Args:
        folder: The folder of the journal, beside the logits; None keeps nothing.
        about: The facts that all artefacts of this pick follow from; an artefact that followed from
            others counts as not made.
    """

    def __init__(self, folder: Path | None, about: str) -> None:
        self._path = None if folder is None else folder / _FILE
        self._about = about
        self._made: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        if self._path is not None and self._path.is_file():
            self._made, self._refused = _read(self._path, about)

    def holds(self, artifact: Path) -> bool:
        """Whether an artefact was made and lies where it was put, unchanged."""
        known = self._made.get(str(artifact.resolve()))
        return known is not None and known == _digest(artifact)

    def add(self, artifact: Path) -> None:
        """Notes an artefact that was made."""
        digest = _digest(artifact)
        if digest is not None:
            self._made[str(artifact.resolve())] = digest
            self._write()

    def why_refused(self, artifact: Path) -> str | None:
        """The reason why an artefact could not be made; None if that was not tried."""
        return self._refused.get(str(artifact.resolve()))

    def refuse(self, artifact: Path, why: str) -> None:
        """Notes an artefact that cannot be made."""
        self._refused[str(artifact.resolve())] = why
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found = {"about": self._about, "made": self._made, "refused": self._refused}
        write_whole(self._path, json.dumps(found, indent=1))


def about(model_sha256: str, importing: ImportOptions, calibration: ImageSet | None) -> str:
    """A digest of what artefacts are made of: model, how it is read, images, our version.

    Raises:
        DataError: A calibration image cannot be read.
    """
    said = {
        each.name: repr(getattr(importing, each.name))
        for each in fields(importing)
        if each.name not in _NO_CONTENT
    }
    words = [json.dumps(versions_of([])), model_sha256, json.dumps(said)]
    found = hashlib.sha256("\n".join(words).encode())
    try:
        for sample in () if calibration is None else calibration.samples:
            found.update(digest_of(sample.image))
    except OSError as error:
        raise DataError(f"cannot read '{error.filename}' ({error.strerror})") from error
    return found.hexdigest()


def _read(path: Path, about: str) -> tuple[dict[str, str], dict[str, str]]:
    """Its content; nothing where it is of something else or garbled, so that all is made anew."""
    try:
        values: Mapping[str, Any] = parse_object(path.read_bytes())
    except (OSError, ValueError):
        return {}, {}
    if values.get("about") != about:
        return {}, {}
    return _texts(values.get("made")), _texts(values.get("refused"))


def _texts(values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        return {}
    return {name: text for name, text in values.items() if isinstance(text, str)}


def _digest(artifact: Path) -> str | None:
    """The digest of all files of an artefact; None if one is missing."""
    found = hashlib.sha256()
    try:
        for part in files_of(artifact):
            found.update(part.name.encode() + b"\0" + hashlib.sha256(part.read_bytes()).digest())
    except OSError:
        return None
    return found.hexdigest()
