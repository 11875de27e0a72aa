"""Binds an artefact's main file to the weights that lie beside it.

Two files cannot be replaced in one step, so a process that dies between the two, or a copy of only
one of them, leaves a graph beside the weights of another. Both load, and compute nonsense. So the
main file names the SHA-256 of its weights; see docs/decisions/0029. Main files of vitedge 0.1 name
none, and are taken as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from vitedge.errors import ModelError

WEIGHTS_KEY = "vitedge_weights_sha256"
"""Beside the metadata: an element of OpenVINO's ``rt_info``, an entry of ONNX's
``metadata_props``."""


def demand_own_weights(main: Path, weights: Path, digest: str) -> None:
    """Refuses weights that are not those that the main file was written with.

    Raises:
        ModelError: The weights are others, or damaged.
    """
    if file_sha256(weights) != digest:
        raise ModelError(
            f"'{main}' and '{weights.name}' do not belong together: one of them was replaced "
            "without the other, or is damaged; convert again with --force, or copy both files anew"
        )


@contextmanager
def unreplaced(files: tuple[Path, ...]) -> Iterator[None]:
    """Makes sure that no file is replaced while the block loads them.

    Raises:
        ModelError: One was.
    """
    before = [_identity(path) for path in files if path.exists()]
    yield
    if [_identity(path) for path in files if path.exists()] != before:
        raise ModelError(f"'{files[0]}' was replaced while it was being loaded; load it again")


def file_sha256(path: Path) -> str:
    """Digest of a file, in hex; computed once for as long as the file stays the same."""
    return _file_sha256(path, _identity(path))


@lru_cache(maxsize=64)
def _file_sha256(path: Path, _: tuple[int, ...]) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _identity(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
