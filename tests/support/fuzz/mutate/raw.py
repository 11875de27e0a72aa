"""Bytes of which nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

Mutation: TypeAlias = Callable[[bytes, Random], bytes]

INTEGERS = (
    *(0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
    *(-(2**31), -(2**63)),
)
"""At and beyond the ends of the types that formats store sizes in."""

_HEADER = 400
"""Headers lie at either end of a file; weights, where any bits are a number, in between."""


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """One to eight edits at random places, half of them near either end."""
    edited = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if edited:
            rng.choice(_EDITS)(edited, _place(len(edited), rng), rng)
    return bytes(edited)


def _place(length: int, rng: Random) -> int:
    near = rng.randrange(min(length, _HEADER))
    return rng.choice((near, length - 1 - near, rng.randrange(length), rng.randrange(length)))


def _truncate(data: bytearray, at: int, rng: Random) -> None:
    del data[at:]


def _flip(data: bytearray, at: int, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 16))):
        data[rng.choice((at, rng.randrange(len(data))))] ^= 1 << rng.randrange(8)


def _integer(data: bytearray, at: int, rng: Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) % (1 << (8 * width))
    data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _delete(data: bytearray, at: int, rng: Random) -> None:
    del data[at : at + rng.choice((1, 2, 4, 8, 16, 64, 512))]


def _repeat(data: bytearray, at: int, rng: Random) -> None:
    start = rng.randrange(len(data))
    data[at:at] = data[start : start + rng.choice((1, 4, 16, 64, 1024))]


def _copy(data: bytearray, at: int, rng: Random) -> None:
    start, length = rng.randrange(len(data)), rng.choice((1, 4, 16, 64))
    data[at : at + length] = data[start : start + length]


def _noise(data: bytearray, at: int, rng: Random) -> None:
    length = rng.choice((1, 4, 8, 64))
    data[at : at + length] = rng.randbytes(length)


_EDITS = (_truncate, _flip, _flip, _integer, _integer, _delete, _repeat, _copy, _noise)
