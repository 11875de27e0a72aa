"""Zip archives: the bytes of one, its members' names, or what is inside a member."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from random import Random

from tests.support.fuzz.mutate.raw import mutate_bytes

_COMPRESSIONS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_NAMES = ("../x", "/etc/x", "a\x00b", "x" * 300, "../../../slip")


def mutate_archive(
    data: bytes, rng: Random, mutate_member: Callable[[str, bytes, Random], bytes]
) -> bytes:
    """Changes an archive.

    Args:
        data: A valid one.
        rng: The generator.
        mutate_member: Changes the content of a member of a name.
    """
    if rng.random() < 0.25:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    # From the end, so that whatever is removed or added leaves the other places as they are.
    count = min(rng.choice((1, 1, 2)), len(members))
    for at in sorted(rng.sample(range(len(members)), count), reverse=True):
        _change(members, at, rng, mutate_member)
    return _written(members, rng)


def _change(
    members: list[tuple[str, bytes]],
    at: int,
    rng: Random,
    mutate_member: Callable[[str, bytes, Random], bytes],
) -> None:
    name, content = members[at]
    match rng.randrange(12):
        case 0:
            del members[at]
        case 1:
            members[at] = rng.choice((*_NAMES, name.upper(), name + "x")), content
        case 2:
            members.append((name, mutate_bytes(content, rng)))
        case 3:
            members[at] = name, rng.choice(members)[1]
        case 4:
            members[at] = name, b""
        case _:
            members[at] = name, mutate_member(name, content, rng)


def _written(members: list[tuple[str, bytes]], rng: Random) -> bytes:
    content = io.BytesIO()
    compression = rng.choice(_COMPRESSIONS) if rng.random() < 0.1 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, member in members:
            archive.writestr(zipfile.ZipInfo(name), member, compression)
    written = bytearray(content.getvalue())
    if rng.random() < 0.1:  # a member that claims another size than it has
        at = written.rfind(b"PK\x01\x02")
        if at >= 0:
            written[at + 20 : at + 28] = rng.choice((b"\xff" * 8, rng.randbytes(8), bytes(8)))
    return bytes(written)
