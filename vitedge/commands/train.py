"""`vitedge train`: images become a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vitedge.commands.options import (
    PATH,
    augmentation_options,
    force_option,
    recipe_options,
    size_options,
    strict_option,
    teacher_options,
)
from vitedge.terminal.output import echo, warn, when_interrupted

if TYPE_CHECKING:
    from vitedge.train import Epoch
    from vitedge.train.request import Outcome

# Options that are called otherwise than the fields that they set.
_FIELDS = {"distill": "hard", "keep": "keep_best"}

# Below this many, the interval is over ten points wide.
_FEW, _FOLDS = 100, 5

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder of class folders, or of train/ and test/ with class folders inside; or a folder "
    "with labels.csv, an .npz, CIFAR's binary batches, or: digits",
)
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--init", type=PATH, help="Model to start from.")
@click.option(
    "--held-out",
    type=_SHARE,
    default=0.1,
    show_default=True,
    help="Share of each class to measure on; not where --data has a part for that.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="K",
    help="Measure on every image: K models, each on the Kth that it has not seen, then one of all. "
    "For few images; K + 1 times as long.",
)
@click.option(
    "--mixed-precision",
    type=click.Choice(["auto", "off", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Float of matrix products; all else is float32. auto: as the device is faster.",
)
@click.option(
    "--strategy",
    type=click.Choice(["mirrored", "multiworker"]),
    help="Divide each batch among this machine's GPUs, or among the machines of TF_CONFIG.",
)
@click.option("--resume", is_flag=True, help="Continue the run that was interrupted.")
@strict_option
@size_options
@recipe_options
@teacher_options
@augmentation_options
@force_option
def train(
    data: Path,
    output: Path,
    init: Path | None,
    teacher: Path | None,
    held_out: float,
    folds: int | None,
    mixed_precision: str,
    strategy: str | None,
    resume: bool,
    force: bool,
    strict: bool,
    **choices: Any,
) -> None:
    """Trains a Vision Transformer on your images, from fresh weights or from a model's.

    Where --data holds train/ and test/ (or validation/, valid/, val/), each with class folders, the
    model learns from the first and is measured on the second; else a share of each class is held
    out. How many images there are decides batch size, epochs, warm-up and learning rate, where
    these are not given. The run is recorded beside the output, in model.run/, so that --resume
    continues it.

    Past one machine: give --strategy multiworker on each, with the same options and images, and the
    environment variable TF_CONFIG as TensorFlow has it, which differs in its index:
    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.
    Worker 0 writes the model.
    """
    from dataclasses import fields

    from vitedge.targets.precisions import Precision
    from vitedge.terminal.display import progress_on_stderr
    from vitedge.terminal.interruption import ending_soon
    from vitedge.train import Augmentation, Distillation, Strategy, TrainingRecipe
    from vitedge.train.record import STATE_FILE
    from vitedge.train.request import TrainRequest, train_model
    from vitedge.train.size import Size

    def chosen(kind: type) -> dict[str, Any]:
        names = {each.name for each in fields(kind)}
        return {k: v for k, v in choices.items() if k in names and v is not None}

    source_of = click.get_current_context().get_parameter_source
    named = {name for name in choices if source_of(name) is not ParameterSource.DEFAULT}
    named = {_FIELDS.get(name, name) for name in named}
    choices |= {"hard": choices["distill"] == "hard", "keep_best": choices["keep"] == "best"}
    if choices["warmup_epochs"] is None:
        choices["warmup_epochs"] = 0.0  # fits whatever number of epochs, until it is chosen
    if choices["quantize_aware"] is not None:
        choices["quantize_aware"] = Precision(choices["quantize_aware"])
    request = TrainRequest(
        data=data,
        output=output,
        size=Size(**chosen(Size), channels=1 if choices["grey"] else 3),
        init=init,
        teacher=teacher,
        distillation_token=choices["distillation_token"],
        recipe=TrainingRecipe(
            **chosen(TrainingRecipe),
            distillation=Distillation(**chosen(Distillation)),
            augmentation=Augmentation(**chosen(Augmentation)),
        ),
        named=frozenset(named),
        mixed_precision=mixed_precision,
        strategy=None if strategy is None else Strategy(strategy),
        held_out_share=held_out,
        folds=folds,
        resume=resume,
        force=force,
        strict=strict,
    )

    def say(words: str) -> None:
        echo(words, err=True)

    last: Epoch | None = None

    def on_epoch(epoch: Epoch) -> None:
        nonlocal last
        last = epoch

    def kept() -> str:
        if not any(request.run_folder.glob(f"**/{STATE_FILE}")):
            return "no epoch was finished, so nothing is kept"
        epochs = f"{last.number} of {last.of} epochs are" if last else "what was finished is"
        return (
            f"{epochs} kept in '{request.run_folder}'; the same command with --resume goes on from "
            "there"
        )

    def last_words() -> None:
        with suppress(OSError):  # it holds something, or was never made
            request.run_folder.rmdir()
        echo("", err=True)
        echo(f"Interrupted: {kept()}", err=True)

    try:
        with ending_soon(last_words), progress_on_stderr(tells_time=True) as progress:
            outcome = train_model(request, progress=progress, on_epoch=on_epoch, say=say, warn=warn)
    except KeyboardInterrupt:  # not by a signal
        when_interrupted(kept())
        raise
    for words in _how_well(outcome):
        echo(words)
    if outcome.trained.worker == 0:
        echo(f"wrote {output}")


def _how_well(outcome: Outcome) -> Iterator[str]:
    """What was measured, on how many images, and how much that says."""
    trained, n = outcome.trained, outcome.held_out
    if outcome.folds is not None:
        right, n, count = outcome.folds.right, outcome.folds.images, outcome.folds.count
        yield f"{_share(right, n, 'images')}, each by one of {count} models that had not seen it"
        yield (
            f"the model that is written has learnt from all {n} and should do as well; only other "
            "images can tell"
        )
        return
    if trained.held_out_accuracy is None:
        return
    yield _share(round(trained.held_out_accuracy * n), n, "held-out images")
    epochs = len(trained.history)
    if outcome.recipe.keep_best and epochs > 1:
        yield (
            f"that is the best of {epochs} epochs, chosen by these same images, so it flatters: "
            "images that no epoch was chosen by (vitedge bench --data) will tell, or --keep last"
        )
    if n < _FEW and outcome.divisible:
        yield (
            f"{n} images say little: --folds {_FOLDS} measures on all {outcome.divisible}, in "
            f"{_FOLDS + 1} times the time"
        )


def _share(right: int, n: int, what: str) -> str:
    from vitedge.bench.spread import wilson_interval

    low, high = wilson_interval(right, n)
    return f"{right / n:.1%} of {n:,} {what} right (95 % interval: {low:.0f} to {high:.0f} %)"


PLUGIN = train
