"""A heap of texts that HDF5 would walk for ever is refused before HDF5 sees it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import h5py
import pytest

from vitedge.errors import ModelError
from vitedge.files.hdf5_heaps import refuse_endless_heaps
from vitedge.files.hdf5_storage import open_contained


def with_texts(path: Path, count: int = 8) -> bytes:
    with h5py.File(path, "w") as file:
        file.attrs["names"] = [f"a name of some length {index}" for index in range(count)]
    return path.read_bytes()


def endless(content: bytes) -> bytes:
    """The same file with the free space at the end of its heap made 0 bytes long."""
    start = content.index(b"GCOL")
    at = start + 16
    while struct.unpack_from("<H", content, at)[0]:
        at += 16 + -(-struct.unpack_from("<Q", content, at + 8)[0] // 8) * 8
    return content[: at + 8] + bytes(8) + content[at + 16 :]


def test_a_heap_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(endless(with_texts(path)))
    with pytest.raises(ModelError, match="has no end"), open_contained("m.h5", path):
        pass


@pytest.mark.parametrize("count", [1, 8, 200, 2000])
def test_sound_heaps_pass(tmp_path: Path, count: int) -> None:
    path = tmp_path / "m.h5"
    with_texts(path, count)
    with open_contained("m.h5", path) as file:
        assert len(file.attrs["names"]) == count


def test_a_heap_across_two_chunks_is_found(tmp_path: Path) -> None:
    content = endless(with_texts(tmp_path / "m.h5"))
    heap = content[content.index(b"GCOL") :]
    for before in range((1 << 20) - 5, (1 << 20) + 2):
        with pytest.raises(ModelError):
            refuse_endless_heaps("m.h5", io.BytesIO(bytes(before) + heap))


def test_numbers_that_look_like_a_heap_pass() -> None:
    refuse_endless_heaps("m.h5", io.BytesIO(b"GCOL"))
    refuse_endless_heaps("m.h5", io.BytesIO(b"GCOL" + b"\x07" * 64))
    refuse_endless_heaps("m.h5", io.BytesIO(b"GCOL\x01" + bytes(64)))
