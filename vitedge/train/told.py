"""Words of a training run about its images and its accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from vitedge.images.image_sets import ImageSet
from vitedge.train.splits import Parts

_SHOWN = 6


def what_was_read(parts: Parts, class_names: Sequence[str], name: str) -> str:
    """One line: how many images of which classes there are, and what becomes of them.

    Args:
        parts: The opened parts; labels may be missing.
        class_names: Names of the classes.
        name: The name that it was opened by.
    """
    training, held_out = parts.training, parts.held_out
    counts = _counts(training) + _counts(held_out)
    count = len(training.samples) + len(held_out.samples)
    words = f"read {_images(count)} of '{name}'"
    if counts:
        words += f" in {len(class_names)} classes ({_sizes(counts, class_names)})"
    how = "held out, to measure on" if parts.whole else "in the part to measure on"
    return f"{words}: {len(training.samples):,} to learn from, {len(held_out.samples):,} {how}"


def what_is_missing(parts: Parts, class_names: Sequence[str]) -> Iterator[str]:
    """Lines about classes that cannot be learnt or cannot be measured."""
    learnt, measured = _counts(parts.training), _counts(parts.held_out)
    if not learnt:
        return
    labels = range(len(class_names))
    untaught = [class_names[label] for label in labels if not learnt[label]]
    if untaught:
        yield f"no image of {_quoted(untaught)} to learn from"
    untried = [class_names[label] for label in labels if learnt[label] and not measured[label]]
    if untried:
        single = all(learnt[class_names.index(name)] == 1 for name in untried)
        why = (
            "a class of one image is never held out"
            if parts.whole and single
            else "none is held out"
        )
        yield f"nothing is measured of {_quoted(untried)}: {why}"


def _counts(images: ImageSet) -> Counter[int]:
    return Counter(each.label for each in images.samples if each.label is not None)


def _sizes(counts: Counter[int], names: Sequence[str]) -> str:
    sizes = [(counts[label], name) for label, name in enumerate(names)]
    least, smallest = min(sizes, key=lambda each: each[0])
    most, largest = max(sizes, key=lambda each: each[0])
    if least == most:
        return f"{least:,} of each"
    return f"the smallest, '{smallest}', has {least:,}, the largest, '{largest}', {most:,}"


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"
