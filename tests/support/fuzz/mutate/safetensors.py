"""``.safetensors`` files: a length, a JSON header, and the numbers."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.raw import INTEGERS, mutate_bytes

_TYPES = (
    *("I8", "U8", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "F4", "I64", "BOOL", "C64", "X"),
    *("", None, 1),
)
_SHAPES = ([], [-1], [0], [2**63], [2**32, 2**32], [0, 2**62], [1.5], None, ["a"], [1] * 70)
_OFFSETS = ([0, 0], [0, 2**63], [2**63, 0], [-1, 4], [], [0], [1e999, 0], None)
_NAMES = ("a" * 1000, "../x", "\x1b[2J", "__metadata__", "")
_METADATA = (1, {"a": 1}, {"format": "pt", "x": "y" * 100_000}, [], None)
_NUMBERS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\x00" * 4, b"\xff" * 4)


def mutate_safetensors(data: bytes, rng: Random) -> bytes:
    """Changes the header, one tensor's entry, or its numbers to NaN, infinity or zero."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    match rng.randrange(8):
        case 0 | 1:
            return mutate_bytes(data, rng)
        case 2:
            at, count = rng.randrange(len(body)) // 4 * 4, rng.choice((1, 1000))
            body = (
                body[:at]
                + (rng.choice(_NUMBERS) * count)[: len(body) - at]
                + body[at:][4 * count :]
            )
        case 3 | 4:
            header = mutate_json(header, rng)
        case _:
            header = _mutate_entry(json.loads(header), rng)
    length = rng.choice(INTEGERS) % 2**64 if rng.random() < 0.05 else len(header)
    return struct.pack("<Q", length) + header + body


def _mutate_entry(entries: dict[str, Any], rng: Random) -> bytes:
    name = rng.choice([each for each in entries if each != "__metadata__"])
    entry = entries[name]
    match rng.randrange(6):
        case 0:
            entry["dtype"] = rng.choice(_TYPES)
        case 1:
            shape = entry["shape"]
            entry["shape"] = rng.choice((*_SHAPES, shape[::-1], [*shape, 1], [1, *shape]))
        case 2:
            start, end = entry["data_offsets"]
            entry["data_offsets"] = rng.choice((*_OFFSETS, [end, start], [start, end - 4]))
        case 3:
            entries[rng.choice((*_NAMES, name.replace("0", "9"), name + "x"))] = entries.pop(name)
        case 4:
            del entries[name]
        case 5:
            entries["__metadata__"] = rng.choice(_METADATA)
    return json.dumps(entries).encode()
