"""The values that a measure is computed over, where its name does not tell."""

from __future__ import annotations

from collections.abc import Sequence

from vitedge.report.results import Row


def measured_over(rows: Sequence[Row]) -> list[str]:
    """A sentence about mean average precision, where rows have one."""
    found = dict.fromkeys(
        (measure.of, row.task_quality.n)
        for row in rows
        if row.task_quality is not None
        for measure in row.task_quality.measures
        if measure.name == "mAP"
    )
    return [_words(of, n) for of, n in found]


def _words(of: str, n: int) -> str:
    if of == "labels":
        return (
            f"mAP is over {n} images of one label each: every other label of an image counts as "
            "wrong, even where the model is right, and labels of no image do not count"
        )
    return (
        f"mAP is over {n} images, whose right labels are those that float32 gives them; labels "
        "that it gives to no image do not count"
    )
