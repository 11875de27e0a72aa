"""The reports of a training run on its way."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypeAlias


@dataclass(frozen=True)
class Step:
    """The state of a run within an epoch.

    Attributes:
        done: Steps taken, in all epochs.
        of: Steps of all epochs.
        loss: Mean loss of this epoch so far.
        accuracy: Share of this epoch's training images classified right so far, 0..1.
        images_per_second: Speed of this epoch so far.
        seconds_left: Time to the end at that speed, each evaluation to come as long as the last;
            None after the first step, which builds the graph.
    """

    done: int
    of: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class Epoch:
    """The results of one pass over the training set.

    Attributes:
        number: 1 for the first.
        of: Number of all epochs.
        loss: Mean training loss, label smoothing included.
        accuracy: Share of augmented training images classified right, 0..1; of mixed ones, as
            the class that they show most of.
        held_out_accuracy: Share of held-out images classified right, 0..1; None when not measured.
        learning_rate: The learning rate of the head at the end of the epoch.
        images_per_second: Training speed; the first step, which compiles, counts only where there
            is no other.
        seconds: Wall time since the start of the run, interruptions not counted.
        held_out_loss: Mean cross-entropy of held-out images in nats, labels as they are; None when
            not measured.
    """

    number: int
    of: int
    loss: float
    accuracy: float
    held_out_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds: float
    held_out_loss: float | None = None


OnStep: TypeAlias = Callable[[Step], None]
OnEpoch: TypeAlias = Callable[[Epoch], None]


def progress_line(step: Step, held_out_accuracy: float | None) -> str:
    """Says where a run stands, such as ``loss 0.412, accuracy 88.3 %, 950 images/s, 3:20 left``."""
    parts = [f"loss {step.loss:.3f}", f"accuracy {step.accuracy:.1%}"]
    if held_out_accuracy is not None:
        parts.append(f"held out {held_out_accuracy:.1%}")
    speed = step.images_per_second
    digits = f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
    parts.append(f"{digits} images/s")
    if step.seconds_left is not None:
        minutes, seconds = divmod(round(step.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        parts.append(f"{left} left")
    return ", ".join(parts)


def history_csv(history: Sequence[Epoch]) -> str:
    """The history as a table with a header line; unmeasured values are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, [each.name for each in fields(Epoch)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    return text.getvalue()
