"""`vitedge train`: images become a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, force_option, model_output_option, strict_option
from vitedge.commands.train_options import (
    augmentation_options,
    recipe_options,
    size_options,
    teacher_options,
)
from vitedge.terminal.output import echo, warn, when_interrupted

if TYPE_CHECKING:
    from vitedge.api.train import TrainOptions
    from vitedge.train import Epoch

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(cls=GroupedCommand)
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder of class folders, or of train/ and test/ with class folders inside; or a folder "
    "with labels.csv, an .npz, CIFAR's binary batches, or: digits",
)
@model_output_option
@click.option("--init", type=PATH, help="Model to start from.")
@click.option(
    "--held-out",
    type=_SHARE,
    default=0.1,
    show_default=True,
    help="Share of each class to measure on, unless --data has a part for that.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="K",
    help="Measure on every image: train K models, measure each on the Kth of the images that it "
    "has not seen, then train one on all. For few images; takes K + 1 times as long.",
)
@click.option(
    "--mixed-precision",
    type=click.Choice(["auto", "off", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Type of matrix products; all else is float32. auto: the fastest on the device.",
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
    **options: Any,
) -> None:
    """Trains a vision transformer on your images, from random or pretrained weights.

    If --data holds train/ and test/ (or validation/, valid/, val/), each with class folders, the
    model learns from the first and is measured on the second; otherwise a share of each class is
    held out. The number of images decides batch size, epochs, warm-up and learning rate, unless you
    give them. The run is recorded beside the output, in model.run/, so that --resume continues it.

    To train on several machines, give --strategy multiworker on each, with the same options and
    images. The environment variable TF_CONFIG, as TensorFlow defines it, differs only in its index:
    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.
    Worker 0 writes the model.
    """
    from vitedge.api.train import train
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr
    from vitedge.terminal.interruption import ending_soon
    from vitedge.train.record import STATE_FILE, run_folder_of

    run_folder = run_folder_of(output)
    last: Epoch | None = None

    def on_epoch(epoch: Epoch) -> None:
        nonlocal last
        last = epoch

    def kept() -> str:
        if not any(run_folder.glob(f"**/{STATE_FILE}")):
            return "no epoch was finished, so nothing is kept"
        epochs = f"{last.number} of {last.of} epochs are" if last else "what was finished is"
        return f"{epochs} kept in '{run_folder}'; the same command with --resume goes on from there"

    def last_words() -> None:
        with suppress(OSError):  # it holds something, or was never made
            run_folder.rmdir()
        echo("", err=True)
        echo(f"Interrupted: {kept()}", err=True)

    try:
        with ending_soon(last_words), progress_on_stderr(tells_time=True) as progress:
            trained = train(
                data,
                output,
                init=init,
                teacher=teacher,
                held_out=held_out,
                folds=folds,
                mixed_precision=mixed_precision,
                strategy=strategy,
                resume=resume,
                strict=strict,
                force=force,
                progress=progress,
                on_epoch=on_epoch,
                say=lambda words: echo(words, err=True),
                warn=warn,
                **cast("TrainOptions", options),
            )
    except KeyboardInterrupt:  # not by a signal
        when_interrupted(kept())
        raise
    print_shown(trained)


PLUGIN = train
