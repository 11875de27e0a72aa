"""The command line: parse, call one function, print.

Results go to stdout, everything else to stderr. Engines, NumPy and rich are imported by the
commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitedge import __version__
from vitedge.cli_options import (
    PATH,
    augmentation_options,
    force_option,
    import_options,
    json_option,
    read_import_options,
    recipe_options,
    size_options,
)
from vitedge.errors import DataError, UsageError, VitedgeError
from vitedge.spec import Format, Precision, Target

if TYPE_CHECKING:
    from vitedge.pipeline import Written


_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)

# Statuses of a bench that a script must notice. UNAVAILABLE is an answer, SLOWER a finding.
_FAILURES = ("CRASHED", "TIMEOUT", "ERROR", "DRIFT", "FALLBACK")


class _Group(click.Group):
    """Turns the errors that vitedge raises on purpose into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VitedgeError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vitedge")
def main() -> None:
    """Vision Transformers to TFLite, ONNX and OpenVINO: converted, quantized, measured honestly.

    \b
    vitedge import deit_tiny.safetensors -o model.keras   read a checkpoint
    vitedge convert --int8 model.keras                    write artefacts for the edge
    vitedge bench --data photos --reference model.keras   measure them
    vitedge predict model.int8.tflite cat.jpg             use one
    """  # noqa: D301  # click's mark for "do not wrap" is the character itself


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _command_line() -> str:
    """What was typed, ready to be typed again."""
    return shlex.join(["vitedge", *sys.argv[1:]])


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


# --- models -------------------------------------------------------------------------------------


@main.command("import")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--check", is_flag=True, help="Only read and compare; write nothing.")
@import_options
@force_option
@json_option
def import_command(
    source: Path, output: Path, check: bool, force: bool, as_json: bool, **options: Any
) -> None:
    """Reads a Vision Transformer from SOURCE and writes it as a Keras model.

    The model carries its preprocessing and labels; `convert` and Keras itself read it.
    """
    from vitedge.pipeline import import_model
    from vitedge.terminal import progress_on_stderr

    with progress_on_stderr() as progress:
        imported = import_model(
            source,
            None if check else output,
            read_import_options(options),
            force=force,
            progress=progress,
        )
    vit = imported.vit
    if as_json:
        result = {"output": None if check else str(output), "path": imported.path}
        _print_json(result | {"parameters": vit.parameters, "classes": vit.config.classes})
        return
    config = vit.config
    click.echo(
        f"{imported.path}: {config.depth} blocks, {config.dim} wide, {config.heads} heads, "
        f"{vit.parameters:,} parameters, {config.classes} classes"
    )
    if not check:
        click.echo(f"wrote {output}")


@main.command()
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
    from vitedge.data import open_images
    from vitedge.pipeline import ConvertOptions, convert
    from vitedge.terminal import progress_on_stderr

    asked = {Precision.FP32: fp32, Precision.FP16: fp16, Precision.INT8: int8}
    precisions = tuple(precision for precision, wanted in asked.items() if wanted)
    if not precisions:
        raise UsageError("say what to write: --fp32, --fp16, --int8 or several of them")
    images = None
    if calibration is not None:
        images = open_images(calibration)
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
        _print_json(
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


@main.command()
@click.argument("file", type=PATH)
@json_option
def inspect(file: Path, as_json: bool) -> None:
    """Shows what FILE is: a model's config, or an artefact's metadata and operators."""
    from vitedge.inspection import inspect
    from vitedge.tables import print_inspection

    found = inspect(file)
    if as_json:
        _print_json(found.to_dict())
    else:
        print_inspection(found)


# --- training -----------------------------------------------------------------------------------


@main.command()
@click.option("--data", type=PATH, required=True, help="Labelled images, or: digits")
@click.option("-o", "--output", type=PATH, default=Path("model.keras"), show_default=True)
@click.option("--init", type=PATH, help="Model to start from.")
@click.option("--teacher", type=PATH, help="Model to learn from beside the labels.")
@click.option(
    "--held-out", type=_SHARE, default=0.1, show_default=True, help="Share to measure on."
)
@click.option("--resume", is_flag=True, help="Continue the run that was interrupted.")
@size_options
@recipe_options
@augmentation_options
@force_option
def train(
    data: Path,
    output: Path,
    init: Path | None,
    teacher: Path | None,
    held_out: float,
    resume: bool,
    force: bool,
    **choices: Any,
) -> None:
    """Trains a Vision Transformer on your images, from fresh weights or from a model's.

    DATA is a folder of class folders, a folder with labels.csv, an .npz, or `digits`. The run is
    recorded beside the output, in model.run/, so that --resume continues it.
    """
    from dataclasses import fields

    from vitedge.terminal import progress_on_stderr
    from vitedge.train import Augmentation, Recipe
    from vitedge.training import Size, TrainRequest, train_model

    def chosen(kind: type) -> dict[str, Any]:
        names = {each.name for each in fields(kind)}
        return {name: value for name, value in choices.items() if name in names}

    if choices["warmup_epochs"] is None:
        choices["warmup_epochs"] = min(5.0, choices["epochs"] / 5)
    request = TrainRequest(
        data=data,
        output=output,
        size=Size(**chosen(Size), channels=1 if choices["grey"] else 3),
        init=init,
        teacher=teacher,
        recipe=Recipe(**chosen(Recipe), augmentation=Augmentation(**chosen(Augmentation))),
        held_out_share=held_out,
        resume=resume,
        force=force,
    )
    with progress_on_stderr() as progress:
        trained = train_model(request, progress=progress)
    last = trained.history[-1]
    if last.held_out_accuracy is not None:
        click.echo(
            f"{last.held_out_accuracy:.1%} of the held-out images right after epoch {last.number}"
        )
    click.echo(f"wrote {output}")


# --- running ------------------------------------------------------------------------------------


@main.command()
@click.argument("artifact", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True)
@click.option("--target", help="Where to run, such as tflite-cpu.  [default: the format's CPU]")
@click.option("--threads", type=click.IntRange(1))
@json_option
def predict(
    artifact: Path,
    images: Sequence[Path],
    top: int,
    target: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Names IMAGES with ARTIFACT, the most probable classes first."""
    from vitedge.classifier import load

    results, unreadable = [], 0
    with load(artifact, target, threads) as classifier:
        for image in images:
            try:
                ranking = classifier.classify(image, top)
            except DataError as error:
                click.echo(f"Error: {error}", err=True)
                unreadable += 1
                continue
            results.append({"image": str(image), "classes": [list(pair) for pair in ranking]})
            if not as_json:
                click.echo(str(image))
                for label, probability in ranking:
                    click.echo(f"  {probability:7.2%}  {label}")
    if as_json and results:
        _print_json(results)
    if unreadable:
        click.get_current_context().exit(1)


@main.command()
@json_option
def targets(as_json: bool) -> None:
    """Lists every target: ready here, or what is missing and the command that brings it."""
    from dataclasses import asdict

    from vitedge.measure import probe_targets
    from vitedge.tables import print_targets

    found = probe_targets()
    if as_json:
        _print_json([{"target": str(target)} | asdict(state) for target, state in found.items()])
    else:
        print_targets(found)


@main.command()
@click.argument("artifacts", nargs=-1, type=PATH)
@click.option("--target", "wanted", multiple=True, help="Where to run; may repeat.  [default: all]")
@click.option("--data", type=PATH, help="Labelled images to measure accuracy on.")
@click.option("--reference", type=PATH, help="Model or float32 artefact to compare with.")
@click.option("--threads", type=click.IntRange(1))
@click.option("--runs", type=click.IntRange(1), help="Timed inferences of each row.")
@click.option("--json", "json_file", type=PATH, help="Write the report here; - is stdout.")
@click.option("--csv", "csv_file", type=PATH, help="Write the rows here.")
@click.option("--markdown", "markdown_file", type=PATH, help="Write the table here.")
@click.option("--html", "html_file", type=PATH, help="Write the report page here.")
@click.option(
    "--interleave", is_flag=True, help="Measure artefacts in turns: ratios that noise cannot bend."
)
@click.option(
    "--sustained", type=float, metavar="MINUTES", help="Keep running, to see how latency drifts."
)
@click.option("--throughput", is_flag=True, help="Measure parallel requests as well.")
@force_option
def bench(
    artifacts: tuple[Path, ...],
    wanted: tuple[str, ...],
    data: Path | None,
    reference: Path | None,
    threads: int | None,
    runs: int | None,
    json_file: Path | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    html_file: Path | None,
    interleave: bool,
    sustained: float | None,
    throughput: bool,
    force: bool,
) -> None:
    """Measures ARTIFACTS (files or folders): latency, memory, accuracy, agreement, placement.

    Each row is measured in a process of its own. Without ARTIFACTS, those in the current folder
    are taken; if there are none, the built-in digits model.
    """
    from dataclasses import replace

    from vitedge.bench.run import BenchOptions
    from vitedge.measure import Request, measure, write_reports
    from vitedge.staging import refuse_existing
    from vitedge.tables import print_report
    from vitedge.terminal import progress_on_stderr

    to_stdout = json_file is not None and str(json_file) == "-"
    files = {
        "json": None if to_stdout else json_file,
        "csv": csv_file,
        "markdown": markdown_file,
        "html": html_file,
    }
    refuse_existing([path for path in files.values() if path is not None], force=force)
    request = Request(
        artifacts=artifacts,
        targets=tuple(_target(text) for text in wanted),
        data=data,
        reference=reference,
        options=BenchOptions(
            threads=threads,
            runs=runs,
            interleave=interleave,
            sustained_minutes=sustained,
            throughput=throughput,
        ),
    )
    with progress_on_stderr() as progress:
        report = replace(measure(request, progress=progress), command=_command_line())
    write_reports(report, files)
    if to_stdout:
        click.echo(report.to_json())
    else:
        print_report(report)
    failed = [row for row in report.rows if row.status in _FAILURES]
    if failed:
        raise VitedgeError(f"{len(failed)} of {len(report.rows)} rows failed")
    if all(row.load_ms is None for row in report.rows):
        raise VitedgeError("nothing could be run")


@main.command()
@click.option("-o", "--output", type=PATH, default=Path("vitedge-demo"), show_default=True)
@force_option
def demo(output: Path, force: bool) -> None:
    """Trains a small ViT on handwritten digits, converts it nine ways, measures all of them."""
    from vitedge.demo import run_demo
    from vitedge.tables import print_report
    from vitedge.terminal import progress_on_stderr

    with progress_on_stderr() as progress:
        result = run_demo(output, force=force, progress=progress)
    print_report(result.report)
    click.echo(
        f"trained to {result.accuracy:.1%} of {result.held_out} held-out digits; "
        f"model, artefacts, report.json and report.html are in {output}/"
    )
