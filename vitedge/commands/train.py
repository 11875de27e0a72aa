"""`vitedge train`: images become a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vitedge.cli_options import (
    PATH,
    augmentation_options,
    force_option,
    recipe_options,
    size_options,
    teacher_options,
)
from vitedge.cli_output import echo, when_interrupted

# What repairs a quantized model with few photos; see docs/decisions/0022.
_REPAIR: dict[str, Any] = {
    "epochs": 80,
    "batch_size": 16,
    "learning_rate": 1.5e-4,
    "layer_decay": 1.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "average": 0.98,
    "keep": "last",
    "share": 1.0,
    "distill": "soft",
    "crop": 0.35,
    "flip": True,
}

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.option("--data", type=PATH, required=True, help="Labelled images, or: digits")
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--init", type=PATH, help="Model to start from.")
@click.option(
    "--held-out", type=_SHARE, default=0.1, show_default=True, help="Share to measure on."
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
    mixed_precision: str,
    strategy: str | None,
    resume: bool,
    force: bool,
    **choices: Any,
) -> None:
    """Trains a Vision Transformer on your images, from fresh weights or from a model's.

    DATA is a folder of class folders, a folder with labels.csv, an .npz, or `digits`. The run is
    recorded beside the output, in model.run/, so that --resume continues it.

    Past one machine: give --strategy multiworker on each, with the same options and images, and the
    environment variable TF_CONFIG as TensorFlow has it, which differs in its index:
    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.
    Worker 0 writes the model.
    """
    from dataclasses import asdict, fields

    from vitedge.spec import Precision
    from vitedge.terminal import progress_on_stderr
    from vitedge.train import Augmentation, Distillation, Recipe, Strategy, usual_rates
    from vitedge.train.record import STATE_FILE
    from vitedge.training import Size, TrainRequest, train_model

    def chosen(kind: type) -> dict[str, Any]:
        names = {each.name for each in fields(kind)}
        return {name: value for name, value in choices.items() if name in names}

    if choices["quantize_aware"] is not None:
        choices["quantize_aware"] = Precision(choices["quantize_aware"])
        given = click.get_current_context().get_parameter_source
        choices |= {k: v for k, v in _REPAIR.items() if given(k) is ParameterSource.DEFAULT}
    choices["hard"], choices["keep_best"] = choices["distill"] == "hard", choices["keep"] == "best"
    # From scratch, few photos are worth more in many views. Grey images are often of signs, which a
    # mirror spoils, and what frozen layers make of images is kept only while these stay the same.
    in_views = init is None and not choices["grey"]
    if choices["crop"] is None:
        choices["crop"] = 0.6 if in_views else 1.0
    if choices["flip"] is None:
        choices["flip"] = in_views
    if choices["warmup_epochs"] is None:
        choices["warmup_epochs"] = min(5.0, choices["epochs"] / 5)
    rates = usual_rates(fine_tuning=init is not None, trainable_blocks=choices["trainable_blocks"])
    choices |= {name: rate for name, rate in asdict(rates).items() if choices[name] is None}
    request = TrainRequest(
        data=data,
        output=output,
        size=Size(**chosen(Size), channels=1 if choices["grey"] else 3),
        init=init,
        teacher=teacher,
        distillation_token=choices["distillation_token"],
        recipe=Recipe(
            **chosen(Recipe),
            distillation=Distillation(**chosen(Distillation)),
            augmentation=Augmentation(**chosen(Augmentation)),
        ),
        mixed_precision=mixed_precision,
        strategy=None if strategy is None else Strategy(strategy),
        held_out_share=held_out,
        resume=resume,
        force=force,
    )

    def say(words: str) -> None:
        echo(words, err=True)

    try:
        with progress_on_stderr(tells_time=True) as progress:
            trained = train_model(request, progress=progress, say=say)
    except KeyboardInterrupt:
        is_begun = (request.run_folder / STATE_FILE).exists()
        when_interrupted(
            "the same command with --resume goes on after the last whole epoch"
            if is_begun
            else "no epoch was finished, so nothing is kept"
        )
        raise
    if trained.held_out_accuracy is not None:
        echo(
            f"{trained.held_out_accuracy:.1%} of the held-out images right "
            f"({choices['keep']} of {len(trained.history)} epochs)"
        )
    if trained.worker == 0:
        echo(f"wrote {output}")


PLUGIN = train
