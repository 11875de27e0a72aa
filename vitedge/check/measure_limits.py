"""Limits of any measure that a report has: top-1, cosine, R², mean average precision, ..."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitedge.errors import UsageError
from vitedge.report.quality import in_digits

_FORM = re.compile(r"\s*(.+?)\s*(>=|<=)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class MeasureLimit:
    """The bound that a measure has to keep.

    Attributes:
        name: The measure's name, as reports have it.
        is_least: Whether the value is the least, not the largest, that passes.
        value: The bound, in the measure's unit.
    """

    name: str
    is_least: bool
    value: float

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.is_least else '<='} {self.value:g}"

    @classmethod
    def parse(cls, words: str) -> MeasureLimit:
        """Reads ``cosine>=0.99``.

        Raises:
            UsageError: ``words`` has another form.
        """
        found = _FORM.fullmatch(words)
        try:
            value = float(found[3]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or not math.isfinite(value):
            raise UsageError(
                f"--limit takes a measure, >= or <=, and a number, as 'cosine>=0.99', not '{words}'"
            )
        return cls(found[1], found[2] == ">=", value)


def held(
    measures: Mapping[str, float], limits: tuple[MeasureLimit, ...]
) -> Iterator[tuple[bool, str]]:
    """Whether a row's measures are within each limit, and the numbers in words.

    A measure that the row does not have is not within its limit.
    """
    by_name = {_key(name): (name, value) for name, value in measures.items()}
    for limit in limits:
        name, value = by_name.get(_key(limit.name), ("", None))
        if value is None:
            has = ", ".join(measures) or "none: bench with --data and --reference"
            yield False, f"the report has no '{limit.name}' of it; its measures are {has}"
            continue
        passes = value >= limit.value if limit.is_least else value <= limit.value
        word = "at least" if limit.is_least else "at most"
        yield (
            passes,
            f"{name} is {in_digits(value, limit.value)}, {word} {limit.value:g} is asked for",
        )


def _key(name: str) -> str:
    """Names without regard to case, and R2 for R²."""
    return name.casefold().replace("²", "2")
