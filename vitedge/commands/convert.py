"""`vitedge convert`: a model becomes artefacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitedge.cli_options import PATH, force_option, import_options, json_option, read_import_options
from vitedge.cli_output import print_json
from vitedge.errors import UsageError
from vitedge.spec import Format, Precision

if TYPE_CHECKING:
    from vitedge.publication import Written


@click.command()
@click.argument("source", type=PATH)
@click.option("--fp32", is_flag=True, help="Write float32 artefacts.")
@click.option("--fp16", is_flag=True, help="Write artefacts with half-precision weights.")
@click.option("--int8", is_flag=True, help="Write 8-bit artefacts.")
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
@click.option("-o", "--output", type=PATH, default=Path(), help="Folder.  [default: .]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--without", multiple=True, metavar="REWRITE", help="Exact rewrite to leave out; may repeat."
)
@import_options
@force_option
@json_option
def convert(
    source: Path,
    fp32: bool,
    fp16: bool,
    int8: bool,
    formats: Sequence[str],
    calibration: Path | None,
    output: Path,
    batch: int,
    without: tuple[str, ...],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Writes artefacts of SOURCE: model.int8.tflite, model.int8.onnx, model.int8.xml and so on.

    Each is loaded in its own runtime after writing and compared with the model; one that computes
    something else is an error and is not written.
    """
    from vitedge.cifar import Part
    from vitedge.data import open_images
    from vitedge.pipeline import ConvertOptions, convert
    from vitedge.terminal import progress_on_stderr

    asked = {Precision.FP32: fp32, Precision.FP16: fp16, Precision.INT8: int8}
    precisions = tuple(precision for precision, wanted in asked.items() if wanted)
    if not precisions:
        raise UsageError("say what to write: --fp32, --fp16, --int8 or several of them")
    images = None
    if calibration is not None:
        images = open_images(calibration, part=Part.TRAINING)
    elif int8:
        click.echo(
            "warning: no --calibration images were given, so int8 is fitted to synthetic ones; "
            "a few dozen typical photos make it more accurate",
            err=True,
        )
    with progress_on_stderr() as progress:
        written = convert(
            source,
            ConvertOptions(
                formats=tuple(Format(each) for each in formats) or tuple(Format),
                precisions=precisions,
                output=output,
                batch=batch,
                without=without,
                force=force,
                importing=read_import_options(options),
            ),
            calibration=images,
            progress=progress,
        )
    if as_json:
        print_json(
            [{"path": str(each.path)} | json.loads(each.metadata.to_json()) for each in written]
        )
        return
    click.echo(f"read {source}: {written[0].metadata.source.path}")
    for each in written:
        click.echo(_written_line(each))


def _written_line(written: Written) -> str:
    from vitedge.artifact import size_of

    parity = written.metadata.parity
    line = f"{written.path}  {size_of(written.path) / 1e6:.1f} MB"
    if parity is None:
        return line
    quality = "equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"
    return f"{line}  {quality} against the model on {parity.n} images"


PLUGIN = convert
