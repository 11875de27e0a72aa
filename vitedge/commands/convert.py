"""`vitedge convert`: a model becomes artefacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitedge.commands.grouped import GroupedCommand, option_group
from vitedge.commands.options import (
    PATH,
    TARGET,
    TARGETS_IN_WORDS,
    force_option,
    import_options,
    json_option,
    precision_options,
    read_source_options,
    strict_option,
)
from vitedge.targets.formats import all_formats
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import all_precisions
from vitedge.terminal.output import echo, next_command, print_json, warn, when_interrupted

if TYPE_CHECKING:
    from vitedge.artifacts.written import Written


@click.command(cls=GroupedCommand, epilog=TARGETS_IN_WORDS)
@click.argument("source", type=PATH)
@precision_options
@click.option(
    "--for",
    "targets",
    multiple=True,
    type=TARGET,
    help="Write what this target takes, compiled too if it takes that; may be repeated.",
)
@click.option(
    "--chip",
    "chips",
    multiple=True,
    help="Compile for this chip only; may be repeated.  [default: all that take the model]",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([str(each) for each in all_formats()]),
    help="Format to write; may be repeated.  [default: all]",
)
@click.option(
    "--calibration",
    type=PATH,
    help="Folder of typical images, labelled or not, to measure activation ranges on.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="POINTS",
    help="Most that an integer artefact may lose on --data against float32: points of accuracy, or "
    "of agreement without labels. As few layers as possible are kept in float.",
)
@click.option("--data", type=PATH, help="Images to measure on, other than those of --calibration.")
@click.option(
    "--tune", is_flag=True, help="Time several graphs of each artefact here; keep the fastest."
)
@option_group(
    click.option(
        "--tokens",
        metavar="SHARE|auto",
        help="Merge similar tokens until this share of the work is left, such as 0.7; or by a "
        "schedule, such as 4:53,8:45; or auto, the fastest schedule on this machine within "
        "--max-drop on --data. The loss by merging is reported apart from that by integers.",
    ),
    click.option(
        "--width",
        type=float,
        metavar="SHARE",
        help="Remove the heads and hidden channels that the outputs need least until this share of "
        "the work is left, such as 0.9. The loss is reported apart from that by integers.",
    ),
    click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        help="Longest search of --tokens auto for each artefact.",
    ),
    click.option(
        "--merge",
        type=click.Choice(["alike", "constant"]),
        help="Tokens that --tokens merges: similar ones in each picture, or the same in every "
        "picture, for devices that cannot sort.  [default: alike, if the target can]",
    ),
    title="Less work",
)
@click.option(
    "--layout",
    type=click.Choice([str(each) for each in Layout]),
    help="Write a folder for transformers.js and Optimum, or for LiteRT's hub, with a model card.",
)
@click.option(
    "--name", help="Beginning of file names.  [default: the name of SOURCE]", metavar="NAME"
)
@click.option(
    "-o", "--output", type=PATH, default=Path(), help="Folder for the artefacts.  [default: .]"
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Images at once."
)
@click.option(
    "--without",
    multiple=True,
    metavar="REWRITE",
    help="Exact rewrite to leave out; may be repeated. An unknown name lists them all.",
)
@import_options
@option_group(
    click.option(
        "--features",
        is_flag=True,
        help="Give the vector that the head reads as a second output, for embeddings.",
    ),
    click.option(
        "--also",
        multiple=True,
        metavar="OUTPUT",
        help="Further output: embedding, tokens, map, or block.0 and so on; may be repeated.",
    ),
    click.option(
        "--tail",
        is_flag=True,
        help="Append SOURCE's own nodes to --logits and --beside again (ONNX, OpenVINO).",
    ),
    click.option(
        "--probabilities",
        is_flag=True,
        help="Give the softmax instead of the logits, or the sigmoid of each label.",
    ),
    title="Outputs",
)
@strict_option
@force_option
@json_option
def convert(
    source: Path,
    precisions: Sequence[str],
    targets: Sequence[str],
    chips: Sequence[str],
    formats: Sequence[str],
    calibration: Path | None,
    max_drop: float | None,
    data: Path | None,
    tune: bool,
    tokens: str | None,
    width: float | None,
    minutes: float | None,
    merge: str | None,
    layout: str | None,
    name: str | None,
    output: Path,
    batch: int,
    without: tuple[str, ...],
    features: bool,
    also: tuple[str, ...],
    tail: bool,
    probabilities: bool,
    strict: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Writes artefacts of SOURCE: model.int8.tflite, model.int8.onnx, model.int8.xml and so on.

    Each artefact is loaded in its own runtime and compared with the model; one that computes
    something else is an error and is not written. With --for, precision and form follow from the
    target (model.int8-static.ethos-u.tflite), which checks that it can run every operator.
    """
    from vitedge.api.convert import convert
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    when_interrupted(f"artefacts that were finished are kept in '{output}'")
    with progress_on_stderr() as progress:
        made = convert(
            source,
            precisions=precisions,
            formats=formats,
            targets=targets,
            chips=chips,
            calibration=calibration,
            data=data,
            max_drop=max_drop,
            tune=tune,
            tokens=tokens,
            width=width,
            minutes=minutes,
            merge=merge,
            layout=layout,
            name=name,
            output=output,
            batch=batch,
            without=without,
            features=features,
            also=also,
            tail=tail,
            probabilities=probabilities,
            strict=strict,
            force=force,
            progress=progress,
            warn=warn,
            on_written=_say_finished,
            **read_source_options(options),
        )
    if made.assumed is not None:
        flags = ", ".join(f"--{each}" for each in all_precisions())
        echo(f"no precision was named, so {made.assumed} was written ({flags})", err=True)
    for skipped, why in {**made.skipped, **made.missing}.items():
        echo(f"skipped {skipped}: {why}", err=True)
    if as_json:
        print_json(
            [
                {"path": str(each.path)} | json.loads(each.metadata.to_json())
                for each in made.artifacts
            ]
        )
    else:
        print_shown(made)
        for each in made.artifacts:
            _note_calibration(each)
        next_command(["bench", str(output), "--data", "PHOTOS", "--reference", str(source)])
    if made.missing:
        echo(f"Error: not everything was written: {', '.join(made.missing)} is missing", err=True)
        click.get_current_context().exit(1)


def _say_finished(written: Written) -> None:
    """A line for each artefact as soon as it is there; the results follow when all are."""
    from vitedge.artifacts.metadata import size_of

    echo(f"finished {written.path.name}: {size_of(written.path) / 1e6:#.3g} MB", err=True)


def _note_calibration(written: Written) -> None:
    """Says which integers no image was measured for: other models may do better without them."""
    metadata = written.metadata
    integers = not metadata.precision.is_float
    if integers and metadata.quantization and metadata.calibration is None:
        words = "; ".join(f"{name}: {how}" for name, how in metadata.quantization.items())
        echo(f"note: {written.path.name} is not calibrated: {words}", err=True)


PLUGIN = convert
