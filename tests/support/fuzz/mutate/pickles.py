"""Pickles, opcode by opcode."""

from __future__ import annotations

import pickletools
from random import Random

from tests.support.fuzz.mutate.raw import INTEGERS, mutate_bytes

# Opcodes with arguments that allocate, hash, call or name what no weights need.
_HOSTILE = (
    *(b"r\xff\xff\xff\x1f", b"q\xff", b"j\xff\xff\xff\x7f", b"h\x63", b"\x94" * 50),  # memo
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"c__main__\nx\n", b"ctorch\nload\n"),  # names
    *(b"ccollections\nOrderedDict\n", b"\x8c\x02os\x8c\x06system\x93", b"ctorch\nFloatStorage\n"),
    *(b"R", b"b", b"\x81", b"\x92", b"Q", b"i", b"o", b"\x82\x01", b"P1\n"),  # calls
    *(b"(", b")", b"]", b"}", b"l", b"d", b"t", b"0", b"1", b"2", b"a", b"e", b"s", b"u", b"\x85"),
    *(b"\x86", b"\x87", b"\x8f", b"\x90", b"\x91", b"."),
    *(b"\x8a\xff" + b"\x7f" * 255, b"\x8b\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\xff"),  # integers
    *(
        b"L" + b"9" * 5000 + b"L\n",
        b"I" + b"9" * 5000 + b"\n",
        b"F1e999\n",
        b"G\x7f\xf8" + bytes(6),
    ),
    *(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f"),
    *(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x97"),
    *(b"N", b"\x88", b"K\x01", b"M\xff\xff", b"J\xff\xff\xff\xff", b"X\x01\x00\x00\x00a"),
    b"".join(b"q%ch%c\x86" % (at, at) for at in range(40)),  # nested tuples: 2^40 leaves to hash
    b"(" * 5000,
    b"]" * 3 + b"2a" * 2000,
)


def mutate_pickle(data: bytes, rng: Random) -> bytes:
    """Deletes, repeats, swaps and inserts opcodes; now and then damages bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(data, rng)
    starts = [at for _, _, at in pickletools.genops(data) if at is not None]
    codes = [data[at:end] for at, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(min(rng.choice((1, 1, 2, 4)), len(codes))):
        at = rng.randrange(len(codes))
        match rng.randrange(7):
            case 0:
                del codes[at]
            case 1:
                codes.insert(rng.randrange(len(codes)), codes[at])
            case 2:
                other = rng.randrange(len(codes))
                codes[at], codes[other] = codes[other], codes[at]
            case 3:
                codes[at] = _argument(codes[at], rng)
            case _:
                codes.insert(at, rng.choice(_HOSTILE))
    return b"".join(codes)


def _argument(code: bytes, rng: Random) -> bytes:
    """The same opcode with another argument."""
    width = len(code) - 1
    if width in (1, 2, 4, 8):
        return code[:1] + (rng.choice(INTEGERS) % (1 << (8 * width))).to_bytes(width, "little")
    return code[:1] + mutate_bytes(code[1:], rng) if width else rng.choice(_HOSTILE)
