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

_RT_INFO, _NET = b"</rt_info>", b"</net>"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2  # fields of onnx.proto's ModelProto and its entries


def bound(main: bytes, suffix: str, weights: Path) -> bytes:
    """A main file that names the digest of its weights; the rest of it is left as it was.

    Args:
        main: Contents of an ``.xml`` or ``.onnx`` file that names none.
        suffix: Which of the two it is.
        weights: The file beside it.

    Raises:
        ModelError: It is no such file.
    """
    digest = file_sha256(weights)
    if suffix == ".onnx":
        # A field at the end of a protobuf message is part of it, wherever the others are.
        entry = _protobuf_bytes(_KEY, WEIGHTS_KEY.encode()) + _protobuf_bytes(
            _VALUE, digest.encode()
        )
        return main + _protobuf_bytes(_METADATA_PROPS, entry)
    element = f'<{WEIGHTS_KEY} value="{digest}" />'.encode()
    # The model's own rt_info comes last; those of layers and ports stand inside theirs.
    head, end, tail = main.rpartition(_NET)
    if not end:
        raise ModelError("the .xml file has no end")
    before, closing, after = head.rpartition(_RT_INFO)
    if closing and not after.strip():
        return before + b"\t" + element + b"\n\t" + closing + after + end + tail
    return head + b"\t<rt_info>\n\t\t" + element + b"\n\t</rt_info>\n" + end + tail


def demand_own_weights(main: Path, weights: Path, digest: str) -> None:
    """Refuses weights that are not those that the main file was written with.

    Raises:
        ModelError: They are others, or damaged.
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


def _protobuf_bytes(number: int, content: bytes) -> bytes:
    """One length-delimited field (https://protobuf.dev/programming-guides/encoding)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)
