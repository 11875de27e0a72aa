"""Measures a recipe on a small set: each image is held out once, by a model of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.terminal.progress import Progress
from vitedge.train.fit import train
from vitedge.train.progress import Epoch, Step, progress_line
from vitedge.train.record import STATE_FILE
from vitedge.train.splits import folds

if TYPE_CHECKING:
    from vitedge.images.image_sets import ImageSet
    from vitedge.network.network import Network
    from vitedge.train.recipe import TrainingRecipe
    from vitedge.train.replicas import Replicas
    from vitedge.train.run import Trained


@dataclass(frozen=True)
class Folds:
    """The results of the models of all folds, each on the images that it had not seen.

    Attributes:
        count: The number of models.
        right: Images that were classified right.
        images: All images.
    """

    count: int
    right: int
    images: int


@dataclass(frozen=True, eq=False)
class Lesson:
    """All of a training run but its images.

    Attributes:
        network: The network to start from.
        teacher: The teacher, as for ``train``.
        recipe: The recipe.
        replicas: The replicas that share the work.
        resume: Go on with what is recorded.
        named: Names of the recipe's values that somebody chose; see ``train``.
        original: The model that ``network`` was made of; see ``train``.
    """

    network: Network
    teacher: Network | None
    recipe: TrainingRecipe
    replicas: Replicas
    resume: bool
    named: frozenset[str] | None = None
    original: Network | None = None

    def learn(
        self,
        images: ImageSet,
        held_out: ImageSet | None,
        folder: Path,
        progress: Progress,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        prefix: str = "",
    ) -> Trained:
        """Trains on these images; see ``train`` for the errors."""
        accuracy = None

        def on_step(step: Step) -> None:
            progress(prefix + progress_line(step, accuracy), step.done, step.of)

        def after_epoch(epoch: Epoch) -> None:
            nonlocal accuracy
            accuracy = epoch.held_out_accuracy
            on_epoch(epoch)

        return train(
            self.network,
            images,
            self.recipe,
            held_out=held_out,
            teacher=self.teacher,
            original=self.original,
            folder=folder,
            resume=self.resume,
            named=self.named,
            on_step=on_step,
            on_epoch=after_epoch,
            progress=lambda what, done, total: progress(prefix + what, done, total),
            replicas=self.replicas,
        )


def measured_in_folds(
    lesson: Lesson, images: ImageSet, count: int, folder: Path, progress: Progress
) -> Folds:
    """Trains a model for each fold on all others, and counts what the last epochs get right.

    No epoch is chosen by the images that it is measured on, so the accuracy is not too high.

    Raises:
        DataError: There are fewer images than folds.
    """
    recipe = replace(lesson.recipe, keep_best=False)
    right = 0
    for number, (training, held_out) in enumerate(folds(images, count, seed=recipe.seed), start=1):
        place = folder / f"fold-{number}"
        # A fold that was not begun starts anew, whatever was begun before it.
        is_begun = lesson.resume and (place / STATE_FILE).exists()
        one = replace(lesson, recipe=recipe, resume=is_begun)
        trained = one.learn(
            training, held_out, place, progress, prefix=f"fold {number} of {count}: "
        )
        assert trained.held_out_accuracy is not None
        right += round(trained.held_out_accuracy * len(held_out.samples))
    return Folds(count, right, len(images.samples))
