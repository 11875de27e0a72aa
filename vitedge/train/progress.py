"""What a training run reports on its way."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypeAlias


@dataclass(frozen=True)
class Step:
    """Where a run stands within it.

    Attributes:
        done: Steps taken, in all epochs.
        of: Steps of all epochs.
        loss: Mean loss of this epoch so far.
        accuracy: Share of this epoch's training images classified right so far, 0..1.
        images_per_second: Speed of this epoch so far.
        seconds_left: Time to the end at that speed, each evaluation to come as long as the last.
    """

    done: int
    of: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set came to.

    Attributes:
        number: 1 for the first.
        of: Number of all epochs.
        loss: Mean training loss, label smoothing included.
        accuracy: Share of augmented training images classified right, 0..1; of mixed ones, as
            the class that they show most of.
        held_out_accuracy: Share of held-out images classified right, 0..1; None when not measured.
        learning_rate: At its end, of the head.
        images_per_second: Training speed; the first epoch's includes compilation.
        seconds: Wall time since the start of the run, interruptions not counted.
    """

    number: int
    of: int
    loss: float
    accuracy: float
    held_out_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds: float


OnStep: TypeAlias = Callable[[Step], None]
OnEpoch: TypeAlias = Callable[[Epoch], None]


def history_csv(history: Sequence[Epoch]) -> str:
    """The history as a table with a header line; unmeasured values are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, [each.name for each in fields(Epoch)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    return text.getvalue()
