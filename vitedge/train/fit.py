"""The front door of training: checks what was asked, then runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitedge.chatter import quiet
from vitedge.errors import UsageError, missing_package
from vitedge.progress import Progress, silent
from vitedge.train.pipeline import Loader
from vitedge.train.record import Record, run_digest
from vitedge.train.run import Run, Trained

if TYPE_CHECKING:
    from vitedge.data import ImageSet
    from vitedge.train.progress import OnEpoch, OnStep
    from vitedge.train.recipe import Recipe
    from vitedge.vit import ViT


def train(
    vit: ViT,
    images: ImageSet,
    recipe: Recipe,
    *,
    held_out: ImageSet | None = None,
    teacher: ViT | None = None,
    folder: Path | None = None,
    resume: bool = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains a model, starting from the weights it has.

    The same call gives the same result on the same machine, interrupted and resumed or not.

    Args:
        vit: Where to start; left unchanged.
        images: Labelled images.
        recipe: How.
        held_out: Labelled images to measure the accuracy on after each epoch.
        teacher: A model of the same classes and image size to learn from.
        folder: Where the run is recorded after each epoch: its state, ``log.csv``, and
            TensorBoard's events. None records nothing. What frozen layers compute is kept there,
            too, until the run ends.
        resume: Continue the run recorded in ``folder``.
        on_step: Called after each step.
        on_epoch: Called after each epoch; not for those before a resumption.
        progress: Told how far the work before the first epoch is.

    Raises:
        UnavailableError: TensorFlow or Keras is not installed.
        UsageError: The recipe does not fit the model, the teacher does not fit the student, or
            there is no such run to resume.
        DataError: An image cannot be decoded, has no label, or one that the model lacks.
        VitedgeError: The loss is no longer a number, or the disk refuses.
    """
    if resume and folder is None:
        raise UsageError("to resume a run, name its folder")
    _check_teacher(vit, teacher, recipe)
    tf = _tensorflow()
    loader = Loader(images, vit.preprocessing, vit.config.classes)
    held_out_loader = None
    if held_out is not None:
        held_out_loader = Loader(held_out, vit.preprocessing, vit.config.classes)
    record = None
    if folder is not None:
        record = Record(folder, run_digest(vit, teacher, recipe, loader.labels))
    try:
        run = Run(vit, loader, held_out_loader, recipe, teacher, folder, progress)
        return run.finish(record, resume=resume, on_step=on_step, on_epoch=on_epoch)
    except tf.errors.OpError as error:
        for each in (loader, held_out_loader):
            if each is not None and each.failure is not None:
                raise each.failure from error
        raise


def _tensorflow() -> Any:
    try:
        with quiet():
            import keras  # noqa: F401  # has its own notes to hold back
            import tensorflow as tf

            tf.config.list_logical_devices()  # looks for a GPU, with more notes
    except ImportError as error:
        raise missing_package(error.name or "tensorflow", "train") from error
    return tf


def _check_teacher(vit: ViT, teacher: ViT | None, recipe: Recipe) -> None:
    if teacher is None:
        return
    if recipe.trainable_blocks == 0:
        raise UsageError("a teacher cannot help where only the head learns: train some blocks, too")
    ours, theirs = vit.config, teacher.config
    if (ours.classes, ours.image_size, ours.channels) != (
        theirs.classes,
        theirs.image_size,
        theirs.channels,
    ):
        raise UsageError(
            f"the teacher has {theirs.classes} classes and images of {theirs.image_size}, "
            f"the student {ours.classes} and {ours.image_size}: they must be the same"
        )
