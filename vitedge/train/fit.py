"""The front door of training: checks what was asked, then runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitedge.errors import UsageError, VitedgeError
from vitedge.network.blocks import blocks
from vitedge.network.summary import summary
from vitedge.network.tasks import Task
from vitedge.terminal.progress import Progress, silent
from vitedge.train.engine import start_tensorflow
from vitedge.train.pipeline import Loader
from vitedge.train.record import Record, run_digest, run_parts
from vitedge.train.replicas import Replicas
from vitedge.train.run import Run, Trained

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.images.image_sets import ImageSet
    from vitedge.network.network import Network
    from vitedge.train.grid_start import GridStart
    from vitedge.train.progress import OnEpoch, OnStep
    from vitedge.train.recipe import TrainingRecipe

# More change what the quantizer starts from hardly any more.
_CALIBRATION_IMAGES = 256


def train(
    network: Network,
    images: ImageSet,
    recipe: TrainingRecipe,
    *,
    held_out: ImageSet | None = None,
    teacher: Network | None = None,
    original: Network | None = None,
    folder: Path | None = None,
    resume: bool = False,
    named: frozenset[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress = silent,
    replicas: Replicas | None = None,
) -> Trained:
    """Trains a model, starting from the weights it has.

    The same call gives the same result on the same machine, interrupted and resumed or not.

    Args:
        network: The network to start from; left unchanged.
        images: Labelled images.
        recipe: The recipe.
        held_out: Labelled images to measure the accuracy on after each epoch.
        teacher: A model of the same classes and image size to learn from.
        original: The model that a lighter one was made of, whose blocks it imitates. Its images may
            be larger: those are then loaded, and the lighter model sees them scaled down.
        folder: The folder that the run is recorded in after each epoch: its state, ``log.csv``, and
            TensorBoard's events. None records nothing. Outputs of frozen layers are kept there,
            too, until the run ends.
        resume: Continue the run recorded in ``folder``.
        named: Names of the recipe's values that somebody chose, by which a run that cannot be
            resumed is told apart before those that followed from them; None: all were chosen.
        on_step: Called after each step.
        on_epoch: Called after each epoch; not for those before a resumption.
        progress: Told how far the work before the first epoch is.
        replicas: The replicas that share the work, from ``open_replicas``; None is this process
            alone. All of them make this call with the same arguments; the chief alone writes.

    Raises:
        UnavailableError: TensorFlow or Keras is not installed.
        UsageError: The recipe does not fit the model, the teacher does not fit the student, or
            there is no such run to resume.
        DataError: An image cannot be decoded, has no label, or one that the model lacks.
        VitedgeError: The loss is no longer a number, or the disk refuses.
    """
    if resume and folder is None:
        raise UsageError("to resume a run, name its folder")
    if not network.classes:
        raise UsageError("the model has no logits, and what it learns from are classes")
    if network.task is not Task.CLASSES:
        raise UsageError(
            f"the model gives {network.task.words}, and what it learns from are classes: give a "
            "model of classes"
        )
    _check_teacher(original or network, teacher, recipe)
    tf = start_tensorflow()
    loader = Loader(images, (original or network).preprocessing, network.classes)
    held_out_loader = None
    if held_out is not None:
        held_out_loader = Loader(held_out, network.preprocessing, network.classes)
    replicas = replicas or Replicas()
    parts = run_parts(network, teacher, recipe, loader.labels)
    record = None
    if folder is not None and replicas.is_chief:
        facts = _facts(network, images, held_out, recipe, replicas, is_taught=teacher is not None)
        record = Record(folder, parts, facts, named=named)
    try:
        replicas.agree(run_digest(parts), resume=resume)
        # None is some temporary place: beside the record, on the machine that has it.
        kept = folder if replicas.is_chief else None
        grid = _grid(network, loader, recipe, progress)
        run = Run(
            *(network, loader, held_out_loader, recipe, teacher),
            *(kept, progress, replicas, grid, original),
        )
        return run.finish(record, resume=resume, on_step=on_step, on_epoch=on_epoch)
    except tf.errors.OpError as error:
        for each in (loader, held_out_loader):
            if each is not None and each.failure is not None:
                raise each.failure from error
        if replicas.are_machines:
            raise VitedgeError(
                "another worker ended or cannot be reached; start all of them again, with --resume "
                f"to go on after the last epoch ({str(error).splitlines()[0]})"
            ) from error
        raise


# Fields of a recipe, each with the value that leaves it without effect.
_OFF = {
    "weight_decay": 0,
    "label_smoothing": 0,
    "stochastic_depth": 0,
    "average": 0,
    "balance_classes": False,
    "layer_decay": 1,
    "quantize_aware": None,
    "repair": False,
}


def _facts(
    network: Network,
    images: ImageSet,
    held_out: ImageSet | None,
    recipe: TrainingRecipe,
    replicas: Replicas,
    *,
    is_taught: bool,
) -> dict[str, str]:
    """Describes how the run trains: what applies to it, and nothing else."""
    about = summary(network)
    size, depth = "{} x {} px".format(*about.image_size), len(blocks(network))
    sets = [images] if held_out is None else [images, held_out]
    words = {
        "Model": f"{size}, {about.dim} wide, {depth} blocks, {network.classes} classes",
        "Images": "; ".join(f"{len(each.samples):,} of {each.name}" for each in sets),
    }
    if replicas.count > 1:
        words["Replicas"] = str(replicas.count)
    idle = {"keep_best"} if is_taught else {"keep_best", "distillation"}
    for name, value in asdict(recipe).items():
        if name not in idle and (name not in _OFF or value != _OFF[name]):
            words[name.replace("_", " ").capitalize()] = _in_words(value)
    if held_out is not None:
        words["Epoch kept"] = "the best on held-out images" if recipe.keep_best else "the last"
    return words


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        changes = {key: each for key, each in value.items() if each and (key, each) != ("crop", 1)}
        if not changes.get("operations"):
            changes.pop("magnitude", None)
        return ", ".join(f"{key} {each:g}" for key, each in changes.items()) or "none"
    return "all" if value is None else "yes" if value is True else f"{value}"


def _grid(
    network: Network, loader: Loader, recipe: TrainingRecipe, progress: Progress
) -> GridStart | None:
    if recipe.quantize_aware is None:
        return None
    from vitedge.train.grid_start import grid_start

    count = min(len(loader), _CALIBRATION_IMAGES)
    chosen = np.linspace(0, len(loader) - 1, count).astype(np.int64)

    def pixels() -> Iterator[npt.NDArray[np.uint8]]:
        for done in range(count):
            progress("calibrating", done, count)
            yield loader.load(chosen[done : done + 1])[0]

    return grid_start(network, pixels(), recipe.quantize_aware)


def _check_teacher(network: Network, teacher: Network | None, recipe: TrainingRecipe) -> None:
    if teacher is None:
        return
    if recipe.trainable_blocks == 0:
        raise UsageError("a teacher cannot help where only the head learns: train some blocks, too")
    ours, theirs = ((each.classes, each.image_shape) for each in (network, teacher))
    if ours != theirs:
        raise UsageError(
            f"the teacher has {theirs[0]} classes and images of {theirs[1][:2]}, "
            f"the student {ours[0]} and {ours[1][:2]}: they must be the same"
        )
