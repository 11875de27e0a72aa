"""Chooses the places to merge tokens, and how many, for a share of the work.

Found on DeiT-tiny: a few large merges lose less than many small ones, and each costs a selection;
before a third of the blocks merging is expensive, soon behind it is better than late. So the fewest
merges are taken that do not have to be larger than about a third of the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.errors import ConversionError
from vitedge.network.network import Network
from vitedge.rewrite.merge_tokens import Merging, Place, merge_tokens, places

# Where merges stand, as shares of all blocks. Of those that leave as much work, these change the
# logits of DeiT-tiny least: early ones, though none before a third of the blocks.
_PATTERNS = ((1 / 3,), (1 / 3, 2 / 3), (1 / 3, 1 / 2, 2 / 3), (1 / 3, 5 / 12, 7 / 12, 3 / 4))

# Most of the tokens that one merge of a pattern takes; of the last pattern it takes half.
_MOST = 0.34

# A merge of a smaller part saves less than its selection costs, where there are others.
_LEAST = 0.06

# Integer products take so many rows at once, so all merges but the last leave a multiple of that.
ROWS, _LEAST_ROUNDED = 16, 64

# What a share may be missed by, so that whole rows are taken.
_SLACK = 0.01


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A network with merged tokens, and where.

    Attributes:
        network: The network.
        schedule: The places where tokens are merged, and how many.
        share: Its multiply-accumulates over those of the model as it was.
    """

    network: Network
    schedule: tuple[Merging, ...]
    share: float

    @property
    def words(self) -> str:
        """The schedule as ``--tokens`` takes it: blocks from 1, and tokens, ``4:53,8:45``."""
        return ",".join(f"{each.block + 1}:{each.tokens}" for each in self.schedule)


def scheduled(network: Network, share: float) -> Scheduled:
    """The network with as few tokens merged, by likeness, as leave about this share of the work.

    Args:
        network: Left unchanged.
        share: Multiply-accumulates that may be left, over those that there are; between 0 and 1.

    Raises:
        ConversionError: Tokens cannot be merged, or not so many.
    """
    known = places(network)
    least = 1.0
    for number, pattern in enumerate(_PATTERNS):
        blocks = _blocks(known, pattern)
        if not blocks:
            continue
        most = 0.5 if number + 1 == len(_PATTERNS) else _MOST
        search = _Search(network, known, blocks, most)
        least = min(least, search.least().share)
        if (found := search.evenest(share + _SLACK)) is not None:
            return found
    if least == 1.0:
        raise ConversionError(
            "tokens of this model cannot be merged: it has no attention between all tokens of a "
            "residual stream; leave out --tokens"
        )
    raise ConversionError(
        f"{share:g} of the work is less than merging leaves; take --tokens {least + 0.01:.2f} or "
        "more"
    )


def with_schedule(network: Network, schedule: Sequence[Merging]) -> Scheduled:
    """The network with tokens merged by a schedule.

    Raises:
        ConversionError: Tokens cannot be merged there, or something tells merged ones apart.
    """
    merged = merge_tokens(network, schedule)
    return Scheduled(merged, tuple(schedule), merged.macs / network.macs)


def _blocks(known: Sequence[Place | None], pattern: Sequence[float]) -> tuple[int, ...]:
    """The blocks of a pattern whose tokens can be merged; the last one would save nothing."""
    depth = len(known)
    numbers = (min(math.ceil(part * depth - 1e-9), depth - 1) - 1 for part in pattern)
    allowed = (number for number in numbers if number >= 0 and known[number] is not None)
    return tuple(dict.fromkeys(allowed))


@dataclass(frozen=True, eq=False)
class _Search:
    """The schedules of a pattern.

    Attributes:
        network: The model.
        known: The place in each block where its tokens can be merged.
        blocks: The blocks among these where the pattern merges.
        most: Largest part of the tokens that one merge takes.
    """

    network: Network
    known: Sequence[Place | None]
    blocks: tuple[int, ...]
    most: float

    def least(self) -> Scheduled:
        """The one that leaves the least work."""
        return with_schedule(self.network, self._even(self.most))

    def evenest(self, share: float) -> Scheduled | None:
        """The schedule whose merges are most alike, among those that leave a share of the work."""
        best: tuple[tuple[bool, float], Scheduled] | None = None
        tried = set[tuple[Merging, ...]]()
        for percent in range(1, int(100 * self.most) + 1):
            before = tuple(self._even(percent / 100)[:-1])
            if before in tried:
                continue
            tried.add(before)
            found = self._completed(before, share)
            if found is None:
                continue
            parts = self._parts(found.schedule)
            wastes = len(parts) > 1 and min(parts) < _LEAST
            rank = wastes, sum(part * part for part in parts)
            if max(parts) <= self.most and (best is None or rank < best[0]):
                best = rank, found
        return None if best is None else best[1]

    def _completed(self, before: tuple[Merging, ...], share: float) -> Scheduled | None:
        """The fewest tokens that the last merge must take."""
        place = self.known[self.blocks[-1]]
        assert place is not None
        left = place.sum.shape[0] - sum(each.tokens for each in before)

        def merged(count: int) -> Scheduled:
            last = Merging(self.blocks[-1], count)
            return with_schedule(self.network, (*before, last))

        low, high = 1, (left - place.fixed) // 2
        if high < low or merged(high).share > share:
            return None
        while low < high:
            middle = (low + high) // 2
            if merged(middle).share <= share:
                high = middle
            else:
                low = middle + 1
        return merged(low)

    def _even(self, part: float) -> list[Merging]:
        """Merges that each take about the same part; but for the last, whole rows are left."""
        schedule = []
        tokens: int | None = None
        for block in self.blocks:
            place = self.known[block]
            assert place is not None
            tokens = place.sum.shape[0] if tokens is None else tokens
            count = round(part * tokens)
            if block != self.blocks[-1] and tokens - count >= _LEAST_ROUNDED:
                count = tokens - ROWS * round((tokens - count) / ROWS)
            count = max(1, min(count, (tokens - place.fixed) // 2))
            schedule.append(Merging(block, count))
            tokens -= count
        return schedule

    def _parts(self, schedule: Sequence[Merging]) -> list[float]:
        """The part of the tokens that each merge takes."""
        place = self.known[self.blocks[0]]
        assert place is not None
        tokens, parts = place.sum.shape[0], []
        for each in schedule:
            parts.append(each.tokens / tokens)
            tokens -= each.tokens
        return parts
