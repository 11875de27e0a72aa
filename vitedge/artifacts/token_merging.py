"""An artefact's description of the tokens that are merged in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitedge.files import json_values


@dataclass(frozen=True)
class Lost:
    """The loss, image by image, with the interval that holds 95 % of such sets of images.

    Attributes:
        points: Percentage points: of accuracy with labels, else of agreement.
        low: Lower end of the interval.
        high: Upper end.
        n: Images.
    """

    points: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        low, high = self.low + 0.0, self.high + 0.0  # adding zero makes -0.0 positive
        return f"{self.points + 0.0:.2f} points (95 %: {low:.1f} to {high:.1f}, {self.n} images)"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Lost | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"lost": values}, "lost")
        points, low, high = (json_values.number(values, key) for key in ("points", "low", "high"))
        return cls(points, low, high, json_values.whole(values, "n"))


@dataclass(frozen=True)
class TokenMerging:
    """The places where tokens are merged, and the change from merging alone, apart from int8's.

    Attributes:
        blocks: The blocks behind whose attention tokens are merged, counted from 0.
        tokens: The number of tokens that disappear behind each of the blocks.
        share: Multiply-accumulates over those without merging, 0..1.
        agreement: The share of images for which the float model answers the same with and without
            merging, 0..1; None if it was not measured, or the outputs are not answers.
        n: Images that was measured on.
        groups: The new token that each old one goes into, behind each block, if that is the same
            for every picture; empty if it is found in each picture.
        lost: The loss of float32 by merging alone, on images that no schedule was chosen by; None
            if it was not measured.
        search: The way in which the schedule was found, in words; empty if it was given.
    """

    blocks: tuple[int, ...]
    tokens: tuple[int, ...]
    share: float
    agreement: float | None = None
    n: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
    lost: Lost | None = None
    search: str = ""

    @property
    def where(self) -> str:
        """The places, for people, such as ``53 after block 4``."""
        places = ", ".join(
            f"{tokens} after block {block + 1}"
            for block, tokens in zip(self.blocks, self.tokens, strict=True)
        )
        return f"in every picture alike: {places}" if self.groups else places

    @property
    def words(self) -> str:
        """The schedule in words, with its effect on accuracy."""
        said = "tokens merged " if self.groups else "tokens merged: "
        said += f"{self.where}; {self.share:.2f} of the multiplications"
        if self.search:
            said += f"; {self.search}"
        if self.lost is not None:
            return f"{said}; by itself loses {self.lost}"
        if self.agreement is None:
            return said
        return f"{said}; by itself keeps {self.agreement:.1%} of {self.n} answers"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> TokenMerging | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"merging": values}, "merging")
        blocks, tokens = (json_values.wholes(values, key) for key in ("blocks", "tokens"))
        if len(blocks) != len(tokens):
            raise ValueError("merging names blocks without their tokens")
        agreement, groups = values.get("agreement"), values.get("groups") or []
        if not isinstance(groups, list) or len(groups) not in (0, len(blocks)):
            raise ValueError("merging names groups of other blocks")
        return cls(
            blocks=blocks,
            tokens=tokens,
            share=json_values.number(values, "share"),
            agreement=None if agreement is None else json_values.number(values, "agreement"),
            n=json_values.whole(values, "n"),
            groups=tuple(json_values.wholes({"groups": each}, "groups") for each in groups),
            lost=Lost.from_dict(values.get("lost")),
            search=json_values.text(values, "search") if values.get("search") else "",
        )
