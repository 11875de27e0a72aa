"""FlatBuffers read without their library, and verified before they are: every offset is followed.

An engine trusts the offsets of a file, so a garbled one makes it read anywhere in memory. This is
the Verifier of https://flatbuffers.dev/internals, which the engines' Python packages leave out:
bounds, alignment, vtables, strings and vectors of each table that can be reached. The contents of
byte vectors, which are the weights, are not touched.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Buffer: TypeAlias = bytes | mmap.mmap

_MOST_TABLES = 1_000_000
"""The default of the Verifier; a ViT of a hundred blocks has some 20,000."""


@dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes:
        width: Bytes of a number, or of each element of a vector of numbers.
        is_vector: Whether it is a vector.
        is_text: Whether it is, or holds, strings.
        table: The kind of table it is, or holds; empty for none.
        union: The kinds that it may be, by the number in the field before.
    """

    width: int = 4
    is_vector: bool = False
    is_text: bool = False
    table: str = ""
    union: tuple[str, ...] = ()


Schema: TypeAlias = Mapping[str, tuple[Field | None, ...]]


def parse_schema(tables: Mapping[str, str], unions: Mapping[str, str]) -> Schema:
    """A schema in the short form of ``tflite_schema``."""

    def field(code: str) -> Field | None:
        is_vector, code = code.startswith("*"), code.removeprefix("*")
        if code == "-":
            return None
        if code == "s":
            return Field(is_vector=is_vector, is_text=True)
        if code.startswith("@"):
            return Field(is_vector=is_vector, table=code[1:])
        if code.startswith("u:"):
            return Field(union=tuple(unions[code[2:]].split()))
        return Field(width=int(code), is_vector=is_vector)

    return {kind: tuple(map(field, codes.split())) for kind, codes in tables.items()}


class Table:
    """A table in a buffer that was verified: its fields by their place in the schema."""

    __slots__ = ("_data", "at")

    def __init__(self, data: Buffer, at: int) -> None:
        self._data, self.at = data, at

    def _field(self, index: int) -> int | None:
        vtable = self.at - struct.unpack_from("<i", self._data, self.at)[0]
        if 6 + 2 * index > struct.unpack_from("<H", self._data, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", self._data, vtable + 4 + 2 * index)[0]
        return self.at + offset if offset else None

    def number(self, index: int, form: str, default: int = 0) -> int:
        """A number in one of ``struct``'s forms."""
        at = self._field(index)
        return default if at is None else int(struct.unpack_from("<" + form, self._data, at)[0])

    def _span(self, index: int) -> tuple[int, int]:
        """The start of a vector's elements, and their number."""
        at = self._field(index)
        if at is None:
            return 0, 0
        at += struct.unpack_from("<I", self._data, at)[0]
        return at + 4, struct.unpack_from("<I", self._data, at)[0]

    def length(self, index: int) -> int:
        """Number of elements of a vector."""
        return self._span(index)[1]

    def numbers(self, index: int, form: str) -> tuple[Any, ...]:
        """A vector of numbers in one of ``struct``'s forms."""
        at, length = self._span(index)
        return struct.unpack_from(f"<{length}{form}", self._data, at)

    def content(self, index: int) -> bytes:
        """A vector of bytes, or a string."""
        at, length = self._span(index)
        return self._data[at : at + length]

    def table(self, index: int) -> Table | None:
        """A table that is a field."""
        at = self._field(index)
        if at is None:
            return None
        return Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])

    def tables(self, index: int) -> list[Table]:
        """A vector of tables."""
        at, length = self._span(index)
        offsets = struct.unpack_from(f"<{length}I", self._data, at)
        return [Table(self._data, at + 4 * i + offset) for i, offset in enumerate(offsets)]


def verify(data: Buffer, schema: Schema, kind: str, identifier: bytes) -> Table:
    """Follows every offset of a buffer once.

    Args:
        data: The whole file.
        schema: Its kinds of tables; none of them may contain itself.
        kind: The table type of its root.
        identifier: The four bytes that mark the format.

    Returns:
        The root, all of which may be read.

    Raises:
        ValueError: An offset leads out of the file, a number is not aligned, or the file has more
            tables than any model; the message says where.
    """
    if len(data) < 8 or data[4:8] != identifier:
        raise ValueError(f"no {identifier.decode()} mark")
    walk = _Walk(data, schema)
    root = walk.target(0)
    walk.add(kind, root)
    walk.run()
    return Table(data, root)


class _Walk:
    """A verification under way."""

    def __init__(self, data: Buffer, schema: Schema) -> None:
        self._data, self._schema, self._size = data, schema, len(data)
        self._seen: set[tuple[str, int]] = set()
        self._stack: list[tuple[str, int]] = []
        self._vtables: dict[int, tuple[int, ...]] = {}

    def add(self, kind: str, at: int) -> None:
        """Takes a table up, unless it was already."""
        if (kind, at) not in self._seen:
            if len(self._seen) >= _MOST_TABLES:
                raise ValueError(f"more than {_MOST_TABLES:,} tables")
            self._seen.add((kind, at))
            self._stack.append((kind, at))

    def run(self) -> None:
        while self._stack:
            kind, at = self._stack.pop()
            self._table(kind, at)

    def target(self, at: int) -> int:
        """The place that an offset leads to: behind it, and within the file."""
        self._demand(at, 4, 4)
        offset = struct.unpack_from("<I", self._data, at)[0]
        if not 0 < offset <= self._size - at - 4:
            raise ValueError(f"the offset at {at} leads out of the file")
        return int(at + offset)

    def _demand(self, at: int, width: int, alignment: int) -> None:
        if at % alignment:
            raise ValueError(f"the value at {at} is not aligned to {alignment} bytes")
        if not 0 <= at <= self._size - width:
            raise ValueError(f"the value at {at} reaches past the end of the file")

    def _table(self, kind: str, at: int) -> None:
        offsets = self._offsets(at)
        fields = self._schema[kind]
        for index, (field, offset) in enumerate(zip(fields, offsets, strict=False)):
            if field is None or not offset:
                continue
            if field.union:
                chosen = self._union(field, at, offsets[index - 1])
                if chosen:
                    self.add(chosen, self.target(at + offset))
            elif field.is_vector:
                self._vector(field, at + offset)
            elif field.is_text:
                self._text(at + offset)
            elif field.table:
                self.add(field.table, self.target(at + offset))
            else:
                self._demand(at + offset, field.width, field.width)

    def _offsets(self, at: int) -> tuple[int, ...]:
        """The fields of a table, as its vtable places them; most tables share theirs."""
        self._demand(at, 4, 4)
        vtable = at - struct.unpack_from("<i", self._data, at)[0]
        if vtable not in self._vtables:
            self._demand(vtable, 4, 2)
            length = struct.unpack_from("<H", self._data, vtable)[0]
            if length < 4 or length % 2:
                raise ValueError(f"the vtable at {vtable} has {length} bytes")
            self._demand(vtable, length, 2)
            count = length // 2 - 2
            self._vtables[vtable] = struct.unpack_from(f"<{count}H", self._data, vtable + 4)
        return self._vtables[vtable]

    def _union(self, field: Field, at: int, offset: int) -> str:
        """The kind of table that a union is; empty for none, and for kinds of a newer schema."""
        if not offset:
            return ""
        self._demand(at + offset, 1, 1)
        number = self._data[at + offset]
        if number >= len(field.union):
            raise ValueError(f"the kind {number} of the table at {at} is unknown")
        return field.union[number] if number else ""

    def _vector(self, field: Field, at: int) -> None:
        start, length = self._elements(at, field.width)
        if not field.is_text and not field.table:
            return
        for spot in range(start, start + 4 * length, 4):
            if field.table:
                self.add(field.table, self.target(spot))
            else:
                self._text(spot)

    def _elements(self, at: int, width: int) -> tuple[int, int]:
        start = self.target(at) + 4
        self._demand(start - 4, 4, 4)
        length = int(struct.unpack_from("<I", self._data, start - 4)[0])
        if length:
            self._demand(start, width * length, width)
        return start, length

    def _text(self, at: int) -> None:
        start, length = self._elements(at, 1)
        self._demand(start + length, 1, 1)
        if self._data[start + length] != 0:
            raise ValueError(f"the text at {start} has no end")
        try:
            str(self._data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the text at {start} is not UTF-8") from error
