"""An artefact's description of the tokens that are merged in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitedge.files import json_values


@dataclass(frozen=True)
class TokenMerging:
    """The places where tokens are merged, and the change from merging alone, apart from int8's.

    Attributes:
        blocks: Behind the attention of which blocks, from 0.
        tokens: How many tokens disappear behind each.
        share: Multiply-accumulates over those without merging, 0..1.
        agreement: How often the float model answers the same with and without merging, 0..1; None
            where nobody measured it, or the outputs are not answers.
        n: Images that was measured on.
        groups: Which new token each old one goes into, behind each block, where that is the same
            for every picture; empty where it is found in each.
    """

    blocks: tuple[int, ...]
    tokens: tuple[int, ...]
    share: float
    agreement: float | None = None
    n: int = 0
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        places = ", ".join(
            f"{tokens} after block {block + 1}"
            for block, tokens in zip(self.blocks, self.tokens, strict=True)
        )
        where = " in every picture alike" if self.groups else ""
        said = f"tokens merged{where}: {places}; {self.share:.2f} of the multiplications"
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
        )
