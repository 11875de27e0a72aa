"""What a training run reports on its way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitedge.errors import VitedgeError

if TYPE_CHECKING:
    from vitedge.train.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set came to.

    Attributes:
        number: 1 for the first.
        of: Number of all epochs.
        loss: Mean training loss, label smoothing included.
        accuracy: Share of augmented training images classified right, 0..1.
        held_out_accuracy: Share of held-out images classified right, 0..1; None when not measured.
        images_per_second: Images trained on per second of this epoch, evaluation included.
        seconds: Wall time since the start of the training.
    """

    number: int
    of: int
    loss: float
    accuracy: float
    held_out_accuracy: float | None
    images_per_second: float
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Time until the last epoch ends, at the speed so far."""
        return self.seconds / self.number * (self.of - self.number)


class Watch:
    """Keeps the history of a run, reports it, and stops a run whose loss is lost."""

    def __init__(
        self, recipe: Recipe, images_per_epoch: int, on_epoch: Callable[[Epoch], None] | None
    ) -> None:
        self.history: list[Epoch] = []
        self._recipe, self._images, self._on_epoch = recipe, images_per_epoch, on_epoch
        self._started = self._previous = time.perf_counter()

    def epoch_end(self, index: int, logs: Mapping[str, float]) -> None:
        """Takes Keras's numbers of the epoch ``index``, which counts from 0.

        Raises:
            VitedgeError: The loss is infinite or not a number.
        """
        if not math.isfinite(logs["loss"]):
            raise VitedgeError(
                f"the loss became {logs['loss']} in epoch {index + 1}: lower the learning rate "
                f"(now {self._recipe.learning_rate:g}) or lengthen the warm-up "
                f"(now {self._recipe.warmup_epochs:g} epochs)"
            )
        now = time.perf_counter()
        epoch = Epoch(
            number=index + 1,
            of=self._recipe.epochs,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            held_out_accuracy=float(logs["val_accuracy"]) if "val_accuracy" in logs else None,
            images_per_second=self._images / (now - self._previous),
            seconds=now - self._started,
        )
        self._previous = now
        self.history.append(epoch)
        if self._on_epoch is not None:
            self._on_epoch(epoch)
