"""A choice in words: what to ship, why, and how sure that is."""

from __future__ import annotations

from vitedge.pick.choice import Choice, Contender
from vitedge.report.quality import Drop

_MOST_FASTER = 3


def in_words(choice: Choice) -> str:
    """A few sentences."""
    best = choice.best
    if best is None:
        return "No artefact ran as it should, so there is none to name."
    if not choice.meets_budget:
        missed = " and ".join(miss.words for miss in best.misses)
        words = (
            f"None of {len(choice.contenders)} meets the budget. The nearest is {best}: {missed}."
        )
        return f"{words} In all: {_numbers(best)}. {_unstable(best)}".rstrip()
    return " ".join(
        sentence
        for sentence in (
            f"Ship {best}: {_numbers(best)}.",
            _why(choice, best),
            how_sure(best.drop, choice.budget.max_drop),
            _unstable(best),
        )
        if sentence
    )


def how_sure(drop: Drop, limit: float) -> str:
    """Whether as many images as there are can tell that a drop is within its limit."""
    if drop.high <= limit:
        return f"With 95 % confidence it loses no more than {max(drop.high, 0):.1f} points."
    words = f"{drop.n} images cannot rule out a loss of up to {drop.high:.1f} points"
    spare = limit - drop.points
    if spare <= 0:
        return f"{words}."
    # The interval narrows with the square root of the number of images.
    needed = drop.n * ((drop.high - drop.points) / spare) ** 2
    return f"{words}; about {float(f'{needed:.2g}'):,.0f} would."


def _numbers(contender: Contender) -> str:
    row, drop = contender.row, contender.drop
    words = [f"{contender.latency_ms:#.3g} ms", f"{row.size_mb:#.3g} MB"]
    if row.merging:
        words.insert(0, f"tokens merged: {row.merging}")
    interval = f"95 %: {drop.low:+.1f} to {drop.high:+.1f} points lost"
    if row.task_quality is not None:
        own = row.task_quality
        value = next(each for each in own.measures if each.name == own.drop_of)
        shown = f"{own.drop_of} {value.value:.4g} {value.unit}".strip()
        words.append(f"{shown} of {drop.n} images ({interval})")
    elif row.accuracy is None:
        changed = row.vs_float.flipped if row.vs_float else 0
        words.append(f"{changed} of {drop.n} images named otherwise than by float32")
    else:
        lost = abs(drop.points)
        direction = "less" if drop.points > 0 else "more"
        than = f"{lost:.2f} points {direction} than float32" if lost else "as many right as float32"
        words.append(f"top-1 {row.accuracy.top1:.1f} % of {drop.n} images, {than} ({interval})")
    return ", ".join(words)


def _why(choice: Choice, best: Contender) -> str:
    within = [contender for contender in choice.contenders if not contender.misses]
    if len(within) == 1:
        words = "It alone meets the budget"
    elif best is within[0]:
        next_ms = within[1].latency_ms
        words = f"It is the fastest of {len(within)} that meet the budget; next, {within[1]} takes "
        words += f"{next_ms:#.3g} ms"
    else:
        words = (
            f"Of {len(within)} that meet the budget {within[0]} is not clearly faster "
            f"({within[0].latency_ms:#.3g} ms), and this one is more faithful"
        )
    faster = [each for each in choice.contenders if each.latency_ms < best.latency_ms]
    rejected = [f"{each}: {each.misses[0].words}" for each in faster if each.misses]
    if rejected:
        words += f". Faster but not within it: {'; '.join(rejected[:_MOST_FASTER])}"
    return f"{words}."


def _unstable(best: Contender) -> str:
    if not best.row.unstable:
        return ""
    return f"Its times are unstable ({best.row.unstable}): measure again on a quiet machine."
