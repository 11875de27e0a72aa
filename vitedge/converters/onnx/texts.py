"""Our metadata in an ONNX file: entries of ``metadata_props``.

The schema is https://github.com/onnx/onnx, onnx.proto. Only what leads to these entries is read, so
a file of gigabytes is not loaded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from vitedge.artifacts.metadata import LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY, METADATA_KEY
from vitedge.files.weights_digest import WEIGHTS_KEY

_MODEL_PROTO_METADATA_PROPS = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LENGTH_DELIMITED = 2
_KEYS = (METADATA_KEY, WEIGHTS_KEY, LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY)


def read_texts(path: Path) -> Mapping[str, str]:
    """See ``FormatRecord``."""
    found: dict[str, str] = {}
    with path.open("rb") as stream:
        size = path.stat().st_size
        if not size:
            raise ValueError("empty file")
        while stream.tell() < size:
            number, payload = _protobuf_field(stream, size, _MODEL_PROTO_METADATA_PROPS)
            if number != _MODEL_PROTO_METADATA_PROPS:
                continue
            entry = _protobuf_strings(payload)
            for key in _KEYS:
                if entry.get(_ENTRY_KEY) == key.encode():
                    found[key] = entry.get(_ENTRY_VALUE, b"").decode()
    return found


def _protobuf_field(stream: BinaryIO, size: int, wanted: int) -> tuple[int, bytes]:
    """Reads one field; the payload only when it is the wanted one, else skips it."""
    tag = _read_varint(stream)
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise ValueError("a protobuf field has number 0")
    if wire == 0:
        _read_varint(stream)
        return number, b""
    lengths = {1: 8, 5: 4}
    if wire != _LENGTH_DELIMITED and wire not in lengths:
        raise ValueError(f"unknown protobuf wire type {wire}")
    length = _read_varint(stream) if wire == _LENGTH_DELIMITED else lengths[wire]
    if stream.tell() + length > size:
        raise ValueError("a protobuf field reaches past the end of the file")
    if number == wanted and wire == _LENGTH_DELIMITED:
        return number, stream.read(length)
    stream.seek(length, os.SEEK_CUR)
    return number, b""


def _protobuf_strings(payload: bytes) -> dict[int, bytes]:
    stream, found = io.BytesIO(payload), {}
    while stream.tell() < len(payload):
        tag = _read_varint(stream)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError("a metadata entry holds something else than strings")
        found[tag >> 3] = stream.read(_read_varint(stream))
    return found


def _read_varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a protobuf number has over ten bytes")


def name_weights(main: bytes, digest: str) -> bytes:
    """See ``FormatRecord``."""
    # A field at the end of a protobuf message is part of it, wherever the others are.
    entry = _string(_ENTRY_KEY, WEIGHTS_KEY.encode()) + _string(_ENTRY_VALUE, digest.encode())
    return main + _string(_MODEL_PROTO_METADATA_PROPS, entry)


def _string(number: int, content: bytes) -> bytes:
    """One length-delimited field (https://protobuf.dev/programming-guides/encoding)."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)
