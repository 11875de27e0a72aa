"""NumPy's ``.npy`` arrays."""

from __future__ import annotations

import ast
import struct
from random import Random
from typing import Any

from tests.support.fuzz.mutate.raw import mutate_bytes

_TYPES: tuple[Any, ...] = (
    *("|O", "<c8", "|i1", "<f2", "|S4", "<U4", "<M8[s]", "|V4", "<f8", "|b1", ">f4", "<f16"),
    *("|S0", "<f99999", "2<f4", "<U99999999", "|V2147483647", [("a", "<f4")], [("a", "|O")], None),
    *(1, {}, "x"),
)
_SHAPES: tuple[Any, ...] = (
    *((), (0,), (-1,), (2**31, 2**31), (2**62,), (2**63,), (10**40,), (10**6, 10**6), (2**34,)),
    *((True,), ("a",), (1.5,), [3], None, (1,) * 40, (0, 2**62)),
)
_HEADERS = (
    b"{" * 5000,
    b"(" * 200,
    b"1" * 60_000,
    b"{'descr':" * 3000,
    b"a.b",
    b"__import__('os')",
)


def mutate_npy(data: bytes, rng: Random) -> bytes:
    """Changes the header or the numbers of an array."""
    if rng.random() < 0.35 or len(data) < 10:
        return mutate_bytes(data, rng)
    (length,) = struct.unpack("<H", data[8:10])
    header, body = ast.literal_eval(data[10 : 10 + length].decode("latin1")), data[10 + length :]
    match rng.randrange(7):
        case 0 | 1:
            header["descr"] = rng.choice(_TYPES)
        case 2 | 3:
            header["shape"] = rng.choice((*_SHAPES, header["shape"][::-1]))
        case 4:
            header["fortran_order"] = rng.choice((True, 1, None, "x"))
        case 5:
            body = body[: rng.randrange(len(body) + 1)] + rng.choice((b"\xff", b"\x7f")) * 64
        case 6:
            header["x"] = 1
    text = rng.choice(_HEADERS) if rng.random() < 0.1 else repr(header).encode("latin1", "replace")
    text += b" " * (-(11 + len(text)) % 64) + b"\n"
    return data[:8] + struct.pack("<H", min(len(text), 65535)) + text + body


def mutate_npy_member(name: str, content: bytes, rng: Random) -> bytes:
    """The same, for a member of an ``.npz``."""
    return mutate_npy(content, rng)
