"""`vitedge convert`: a model becomes artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitedge.commands.options import (
    PATH,
    force_option,
    import_options,
    json_option,
    precision_options,
    read_import_options,
    read_targets,
    strict_option,
)
from vitedge.errors import ConversionError, PrecisionError, UsageError
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision
from vitedge.targets.precisions import precisions as known_precisions
from vitedge.targets.target import Target
from vitedge.terminal.output import echo, print_json, warn, when_interrupted

if TYPE_CHECKING:
    from vitedge.images.image_sets import ImageSet
    from vitedge.pipeline.budget import DropBudget
    from vitedge.pipeline.verified_write import Written


@click.command()
@click.argument("source", type=PATH)
@precision_options
@click.option(
    "--for",
    "targets",
    multiple=True,
    metavar="TARGET",
    help="Write what this target takes, compiled too where it takes that; may repeat.",
)
@click.option(
    "--chip",
    "chips",
    multiple=True,
    help="Compile for this chip only; may repeat.  [default: all that take the model]",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([str(each) for each in Format]),
    help="Format to write; may repeat.  [default: all]",
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
    "of agreement without labels. As few layers as possible are lifted out of 8 bits.",
)
@click.option("--data", type=PATH, help="Images to measure --max-drop on.")
@click.option(
    "--tune", is_flag=True, help="Time several graphs of each artefact here; keep the fastest."
)
@click.option(
    "--tokens",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Merge tokens that are alike until this share of the work is left, such as 0.7. What that "
    "costs is said apart from what integers cost.",
)
@click.option(
    "--layout",
    type=click.Choice([str(each) for each in Layout]),
    help="Write a folder for transformers.js and Optimum, or for LiteRT's hub, with a model card.",
)
@click.option("-o", "--output", type=PATH, default=Path(), help="Folder.  [default: .]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--without",
    multiple=True,
    metavar="REWRITE",
    help="Exact rewrite to leave out; may repeat. An unknown name lists them all.",
)
@import_options
@click.option(
    "--features", is_flag=True, help="Give what the head reads as a second output, for embeddings."
)
@click.option(
    "--probabilities", is_flag=True, help="Give the softmax of the logits in their place."
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
    tokens: float | None,
    layout: str | None,
    output: Path,
    batch: int,
    without: tuple[str, ...],
    features: bool,
    probabilities: bool,
    strict: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Writes artefacts of SOURCE: model.int8.tflite, model.int8.onnx, model.int8.xml and so on.

    Each is loaded in its own runtime after writing and compared with the model; one that computes
    something else is an error and is not written. With --for, precision and form follow from the
    target (model.int8-static.ethos-u.tflite), which is asked whether it runs the whole of it.
    """
    from vitedge.images.cifar import Part
    from vitedge.images.image_sets import open_images
    from vitedge.images.readable_images import readable, warn_of_images
    from vitedge.pipeline.convert import ConvertOptions, convert
    from vitedge.pipeline.for_targets import convert_for, precisions_for
    from vitedge.terminal.display import progress_on_stderr

    devices = read_targets(targets)
    laid_out = None if layout is None else Layout(layout)
    if laid_out is not None:
        precisions, formats = _of_layout(laid_out, precisions, formats, devices)
    _check_request(precisions, formats, devices, chips)
    asked = tuple(Precision(each) for each in dict.fromkeys(precisions))
    chosen = [each for target in devices for each in precisions_for(target, asked)] or asked
    images, refused = None, dict[Path, ConversionError]()
    if calibration is not None:
        images = readable(open_images(calibration, part=Part.TRAINING), strict=strict)
        warn_of_images(images, warn, calibrating=True)
    elif any(not each.is_float for each in chosen):
        warn(
            "no --calibration images were given, so integers are fitted to synthetic ones; a few "
            "dozen typical photos make them more accurate"
        )
    budget = _read_budget(max_drop, data, chosen, images, strict=strict)
    wanted = ConvertOptions(
        formats=tuple(Format(each) for each in formats) or tuple(Format),
        precisions=asked,
        output=output,
        batch=batch,
        without=without,
        budget=budget,
        tune=tune,
        tokens=tokens,
        features=features,
        probabilities=probabilities,
        layout=laid_out,
        force=force,
        importing=read_import_options(options),
    )
    when_interrupted(f"artefacts that were finished are kept in '{output}'")
    with progress_on_stderr() as progress:
        if devices:
            written = convert_for(
                source,
                devices,
                wanted,
                chips=chips,
                calibration=images,
                progress=progress,
                warn=warn,
            )
        else:
            written = convert(
                source,
                wanted,
                calibration=images,
                progress=progress,
                # Asked for by name, a format that cannot is an error.
                on_refusal=None if formats else refused.__setitem__,
            )
    for path, why in refused.items():
        echo(f"skipped {path.name}: {why}", err=True)
    if not written:
        raise next(iter(refused.values()))
    if as_json:
        print_json(
            [{"path": str(each.path)} | json.loads(each.metadata.to_json()) for each in written]
        )
        _end_incomplete(refused)
        return
    echo(f"read {source}: {written[0].metadata.source.path}")
    if (merging := written[0].metadata.merging) is not None:
        echo(merging.words)
    for each in written:
        echo(_written_line(each))
        if words := each.metadata.quantization.get("budget"):
            echo(f"  {words}")
        _note_calibration(each)
    _end_incomplete(refused)


def _end_incomplete(refused: Mapping[Path, ConversionError]) -> None:
    """Fails where an artefact is missing that its format has in general."""
    missing = [path.name for path, why in refused.items() if not isinstance(why, PrecisionError)]
    if missing:
        echo(f"Error: not everything was written: {', '.join(missing)} is missing", err=True)
        click.get_current_context().exit(1)


def _of_layout(
    layout: Layout, precisions: Sequence[str], formats: Sequence[str], targets: Sequence[Target]
) -> tuple[Sequence[str], Sequence[str]]:
    """Precisions and formats of a layout, where nobody named any."""
    from vitedge.pipeline.layouts import LAYOUTS

    if targets:
        raise UsageError("--for and --layout name files in different ways; leave one out")
    laid = LAYOUTS[layout]
    usual = [each for each in laid.files if not each.all_integer]
    return precisions or usual, formats or [laid.format]


def _check_request(
    precisions: Sequence[str],
    formats: Sequence[str],
    targets: Sequence[Target],
    chips: Sequence[str],
) -> None:
    if targets and formats:
        raise UsageError("--for decides the format; leave out --format")
    if chips and not targets:
        raise UsageError("--chip says what --for compiles; give --for as well")
    if not targets and not precisions:
        flags = ", ".join(f"--{each}" for each in known_precisions())
        raise UsageError(f"say what to write: {flags}, several of them, or --for")


def _read_budget(
    max_drop: float | None,
    data: Path | None,
    precisions: Sequence[Precision],
    calibration: ImageSet | None,
    *,
    strict: bool,
) -> DropBudget | None:
    from vitedge.images.cifar import Part
    from vitedge.images.image_sets import open_images
    from vitedge.images.readable_images import readable, warn_of_images
    from vitedge.pick.overlap import refuse_overlap
    from vitedge.pipeline.budget import DropBudget

    if (max_drop is None) != (data is None):
        raise UsageError("--max-drop and --data go together: what may be lost, and on what")
    if max_drop is None or data is None:
        return None
    if all(each.is_float for each in precisions):
        names = " and ".join(precisions)
        raise UsageError(f"--max-drop lifts layers out of integers, of which {names} has none")
    measured = readable(open_images(data, part=Part.HELD_OUT), strict=strict)
    warn_of_images(measured, warn)
    budget = DropBudget(max_drop, measured)
    if calibration is not None:
        refuse_overlap(calibration, budget.images)
    return budget


def _note_calibration(written: Written) -> None:
    """Says which integers no image was measured for: what is no ViT may be better off without."""
    metadata = written.metadata
    integers = not metadata.precision.is_float
    if integers and metadata.quantization and metadata.calibration is None:
        words = "; ".join(f"{name}: {how}" for name, how in metadata.quantization.items())
        echo(f"note: {written.path.name} is not calibrated: {words}", err=True)


def _written_line(written: Written) -> str:
    from vitedge.artifacts.metadata import size_of

    parity = written.metadata.parity
    line = f"{written.path}  {size_of(written.path) / 1e6:.1f} MB"
    if parity is None:
        return line
    quality = "equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"
    calibration = written.metadata.calibration
    kind = "synthetic images" if calibration and calibration.kind == "synthetic" else "images"
    return f"{line}  {quality} against the model on {parity.n} {kind}"


PLUGIN = convert
