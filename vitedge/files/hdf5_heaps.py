"""HDF5's global heaps, which hold texts of free length: one that never ends is refused.

HDF5 walks a heap object by object, each by its own size, and walks for ever where a free object has
size 0. See "Global Heap" in the HDF5 file format specification, III.E.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from vitedge.errors import ModelError

_SIGNATURE = b"GCOL"
_HEAD = struct.Struct("<4sB3xQ")  # signature, version, size of the whole heap
_OBJECT = struct.Struct("<HH4xQ")  # number, 0 for free space; references; size
_CHUNK = 1 << 20
_LARGEST = 64 << 20
"""Heaps are made 4 KiB long and grow with the texts in them; larger ones are not looked into."""


def refuse_endless_heaps(source: str, stream: BinaryIO) -> None:
    """Refuses a file whose texts HDF5 would read for ever.

    Args:
        source: Name of the file, for the message.
        stream: The file; afterwards it stands anywhere.

    Raises:
        ModelError: A heap has a free object of size 0.
    """
    for at in _found(stream):
        stream.seek(at)
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            continue
        _, version, size = _HEAD.unpack(head)
        if (
            version == 1
            and _HEAD.size <= size <= _LARGEST
            and _is_endless(stream.read(size - _HEAD.size))
        ):
            raise ModelError(f"'{source}': it is damaged, a heap of its texts has no end")


def _found(stream: BinaryIO) -> list[int]:
    """The places of the signature; numbers may look like it by chance."""
    places, start, kept = [], 0, b""
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        text = kept + chunk
        at = text.find(_SIGNATURE)
        while at >= 0:
            places.append(start - len(kept) + at)
            at = text.find(_SIGNATURE, at + 1)
        start += len(chunk)
        kept = text[-len(_SIGNATURE) + 1 :]
    return places


def _is_endless(objects: bytes) -> bool:
    at = 0
    while at + _OBJECT.size <= len(objects):
        number, _, size = _OBJECT.unpack_from(objects, at)
        if number == 0:
            if size == 0:
                return True
            at += size
        else:
            at += _OBJECT.size + -(-size // 8) * 8
    return False
