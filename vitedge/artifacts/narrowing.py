"""An artefact's description of the heads and hidden channels that were removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitedge.files import json_values


@dataclass(frozen=True)
class Removed:
    """Heads or hidden channels that were removed at one place.

    Attributes:
        read: Name of the value whose channels they are: the one that linear layers read.
        units: Their numbers, from 0, in ascending order.
        of: Their number before the removal.
        heads: Whether these are heads, not hidden channels.
    """

    read: str
    units: tuple[int, ...]
    of: int
    heads: bool

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Removed:
        """Reads it from JSON; raises ``ValueError``."""
        return cls(
            read=json_values.text(values, "read"),
            units=json_values.wholes(values, "units"),
            of=json_values.whole(values, "of"),
            heads=bool(values.get("heads")),
        )


@dataclass(frozen=True)
class Narrowing:
    """The channels that were removed, and the change from that alone, apart from int8's.

    Attributes:
        removed: Place by place, in the order of computation.
        share: Multiply-accumulates over those of the model as it was, 0..1.
        images: ``synthetic``, or ``images`` where they were a person's: what channels were chosen
            by, and what those that remain were fitted to.
        n: The number of these images.
        sha256: Digest in hex of their pixels in order.
        agreement: The share of images that the float model answers as before, 0..1; None where the
            outputs are not answers.
        compared: Number of images that the agreement was measured on.
    """

    removed: tuple[Removed, ...]
    share: float
    images: str
    n: int
    sha256: str
    agreement: float | None = None
    compared: int = 0

    @property
    def where(self) -> str:
        """The parts that are gone, for people, such as ``2 of 36 heads in 2 blocks``."""
        parts = []
        for heads, name in ((True, "heads"), (False, "hidden channels")):
            found = [each for each in self.removed if each.heads is heads]
            if found:
                gone, of = sum(len(each.units) for each in found), sum(each.of for each in found)
                parts.append(f"{gone} of {of} {name} in {len(found)} blocks")
        return ", ".join(parts) or "nothing"

    @property
    def words(self) -> str:
        """For people, with what it changes."""
        said = f"removed: {self.where}; {self.share:.2f} of the multiplications"
        if self.agreement is None:
            return said
        return f"{said}; by itself keeps {self.agreement:.1%} of {self.compared} answers"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Narrowing | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"narrowing": values}, "narrowing")
        places, agreement = values.get("removed"), values.get("agreement")
        if not isinstance(places, list):
            raise ValueError("narrowing names no places")
        return cls(
            removed=tuple(
                Removed.from_dict(json_values.mapping({"place": each}, "place")) for each in places
            ),
            share=json_values.number(values, "share"),
            images=json_values.text(values, "images"),
            n=json_values.whole(values, "n"),
            sha256=json_values.text(values, "sha256"),
            agreement=None if agreement is None else json_values.number(values, "agreement"),
            compared=json_values.whole(values, "compared"),
        )
