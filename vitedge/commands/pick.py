"""`vitedge pick`: which artefact to ship."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from vitedge.commands.options import (
    IMAGE_SIZE,
    PATH,
    force_option,
    import_options,
    read_import_options,
    read_targets,
    strict_option,
)
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.output import command_line, warn, when_interrupted

_NONE_MEETS_THE_BUDGET = 3


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Images to measure accuracy on: class folders, a folder with labels.csv, a .csv, an .npz, "
    "or CIFAR's binary batches.",
)
@click.option(
    "--calibration", type=PATH, help="Other images, labelled or not, to measure ranges on."
)
@click.option("--target", "wanted", multiple=True, help="Where to run; may repeat.  [default: all]")
@click.option(
    "--max-drop",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Top-1 that may be lost against float32.",
)
@click.option("--max-latency", type=click.FloatRange(0, min_open=True), metavar="MS")
@click.option("--max-size", type=click.FloatRange(0, min_open=True), metavar="MB")
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("artefacts"),
    show_default=True,
    help="Folder for the artefacts.",
)
@click.option("--threads", type=click.IntRange(1))
@click.option(
    "--resume", type=PATH, metavar="FOLDER", help="As for `vitedge bench`; conversion is repeated."
)
@click.option("--json", "json_file", type=PATH, help="Write the report here; - is stdout.")
@click.option("--html", "html_file", type=PATH, help="Write the report page here.")
@import_options
@strict_option
@force_option
def pick(
    model: Path,
    data: Path,
    calibration: Path | None,
    wanted: tuple[str, ...],
    max_drop: float,
    max_latency: float | None,
    max_size: float | None,
    output: Path,
    threads: int | None,
    resume: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    strict: bool,
    force: bool,
    **options: Any,
) -> None:
    """Names the artefact of MODEL to ship: made, measured and chosen within a budget.

    Every precision that the targets' formats have is converted and measured in turns. Of those
    within the budget the fastest is named, with how sure that is, and the command that makes it.
    Exit code 3: none is within the budget; the nearest is named.
    """
    from dataclasses import replace

    from vitedge.bench.request import write_reports
    from vitedge.bench.run import BenchOptions
    from vitedge.commands.printed.tables import print_pick
    from vitedge.files.staging import refuse_existing
    from vitedge.pick.choice import Budget
    from vitedge.pick.run import PickRequest, pick
    from vitedge.terminal.display import progress_on_stderr

    context = click.get_current_context()
    to_stdout = json_file is not None and str(json_file) == "-"
    files = {"json": None if to_stdout else json_file, "html": html_file}
    refuse_existing(
        [path for path in files.values() if path is not None], force=force, streams=True
    )
    if calibration is None:
        warn(
            "no --calibration images were given, so ranges are fitted to synthetic ones; a few "
            "dozen typical photos, other than those of --data, make int8 more accurate"
        )
    reproduce = ["vitedge", "convert", str(model), *_typed_import_options(context, options)]
    if calibration is not None:
        reproduce += ["--calibration", str(calibration)]
    reproduce += ["-o", str(output), "--force"]

    def command_for(precision: Precision, written: Format) -> str:
        return shlex.join([*reproduce, f"--{precision}", "--format", str(written)])

    request = PickRequest(
        model=model,
        data=data,
        budget=Budget(max_drop, max_latency, max_size),
        targets=read_targets(wanted),
        calibration=calibration,
        output=output,
        force=force,
        strict=strict,
        importing=read_import_options(options),
        bench=BenchOptions(threads=threads, resume=resume),
    )
    measured = "measurements are not" if resume is None else f"what they computed in '{resume}'"
    when_interrupted(f"artefacts that were finished are kept in '{output}', {measured}")
    with progress_on_stderr() as progress:
        picked = pick(request, reproduce=command_for, progress=progress, warn=warn)
    report = replace(picked.report, command=command_line())
    write_reports(report, files)
    if to_stdout:
        click.echo(report.to_json())
    else:
        print_pick(picked)
    if not picked.choice.meets_budget:
        context.exit(_NONE_MEETS_THE_BUDGET)


def _typed_import_options(context: click.Context, options: dict[str, Any]) -> list[str]:
    """Those options about the model's file that were given, as they are typed."""
    typed: list[str] = []
    for parameter in context.command.params:
        value = options.get(parameter.name or "")
        if value in (None, False, ()):
            continue
        name = parameter.opts[0]
        if value is True:
            typed.append(name)
        else:
            values = value if parameter.multiple else (IMAGE_SIZE.typed(value),)
            typed += [word for each in values for word in (name, str(each))]
    return typed


PLUGIN = pick
