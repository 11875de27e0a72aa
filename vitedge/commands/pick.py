"""`vitedge pick`: which artefact to ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import (
    PATH,
    TARGET,
    TARGETS_IN_WORDS,
    force_option,
    import_options,
    read_source_options,
    strict_option,
)
from vitedge.terminal.output import (
    command_line,
    next_command,
    say_written,
    warn,
    when_interrupted,
)

_NONE_MEETS_THE_BUDGET = 3


@click.command(cls=GroupedCommand, epilog=TARGETS_IN_WORDS)
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
@click.option(
    "--target",
    "wanted",
    type=TARGET,
    multiple=True,
    help="Target to run on; may be repeated.  [default: all that are ready]",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Top-1 that may be lost against float32.",
)
@click.option(
    "--max-latency",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Longest median time of an inference, in milliseconds.",
)
@click.option(
    "--max-size",
    type=click.FloatRange(0, min_open=True),
    metavar="MB",
    help="Largest size of the artefact, in 10^6 bytes.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path(),
    help="Folder for the artefacts.  [default: .]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Also try fewer tokens, fewer pixels and narrower layers, like `vitedge convert` with "
    "`--tokens`, `--image-size` and `--width`, as long as that promises to be faster, and begin no "
    "trial after so many minutes.  [default: none of them]",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of each runtime.")
@click.option(
    "--resume",
    type=PATH,
    metavar="FOLDER",
    help="Folder that an interrupted run continues from: its logits and artefacts are kept.",
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
    minutes: float | None,
    output: Path,
    threads: int | None,
    resume: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    strict: bool,
    force: bool,
    **options: Any,
) -> None:
    """Makes and measures artefacts of MODEL, and names the one to ship within a budget.

    The command converts to every precision that the targets' formats have, and measures in turns.
    With --minutes it also tries fewer tokens, fewer pixels and narrower layers, as long as that
    promises to be faster. It names the fastest artefact within the budget, how certain the choice
    is, and the command that makes it. If no artefact is within the budget, it names the nearest,
    and the exit code is 3.
    """
    from dataclasses import replace

    from vitedge.api.pick import pick
    from vitedge.bench.request import write_reports
    from vitedge.files.staging import refuse_existing
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    to_stdout = json_file is not None and str(json_file) == "-"
    files = {"json": None if to_stdout else json_file, "html": html_file}
    refuse_existing(
        [path for path in files.values() if path is not None], force=force, streams=True
    )
    measured = "measurements are not" if resume is None else f"what they computed in '{resume}'"
    when_interrupted(f"artefacts that were finished are kept in '{output}', {measured}")
    with progress_on_stderr() as progress:
        picked = pick(
            model,
            data,
            calibration=calibration,
            targets=wanted,
            max_drop=max_drop,
            max_latency=max_latency,
            max_size=max_size,
            minutes=minutes,
            output=output,
            threads=threads,
            resume=resume,
            strict=strict,
            force=force,
            progress=progress,
            warn=warn,
            **read_source_options(options),
        )
    report = replace(picked.report, command=command_line())
    write_reports(report, files)
    if to_stdout:
        click.echo(report.to_json())
    else:
        print_shown(picked)
        say_written(files.values())
        best = picked.choice.best
        if best is not None:
            next_command(["deploy", best.row.artifact, "USER@HOST:FOLDER"])
    if not picked.choice.meets_budget:
        click.get_current_context().exit(_NONE_MEETS_THE_BUDGET)


PLUGIN = pick
