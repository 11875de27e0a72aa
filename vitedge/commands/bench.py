"""`vitedge bench`: artefacts are measured."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, TARGET, TARGETS_IN_WORDS, force_option
from vitedge.errors import VitedgeError
from vitedge.terminal.output import command_line, say_written, warn, when_interrupted

# Statuses of a bench that a script must notice. UNAVAILABLE is an answer, SLOWER a finding.
_FAILURES = ("CRASHED", "TIMEOUT", "ERROR", "DRIFT", "FALLBACK")


@click.command(cls=GroupedCommand, epilog=TARGETS_IN_WORDS)
@click.argument("artifacts", nargs=-1, type=PATH)
@click.option(
    "--target",
    "wanted",
    type=TARGET,
    multiple=True,
    help="Target to run on; may be repeated.  [default: all that are ready]",
)
@click.option(
    "--data",
    type=PATH,
    help="Images to measure accuracy on: class folders, a folder with labels.csv, a .csv, an .npz, "
    "or CIFAR's binary batches.",
)
@click.option("--reference", type=PATH, help="Model or float32 artefact to compare with.")
@click.option("--threads", type=click.IntRange(1), help="Threads of each runtime.")
@click.option("--runs", type=click.IntRange(1), help="Timed inferences of each row.")
@click.option("--json", "json_file", type=PATH, help="Write the report here; - is stdout.")
@click.option("--csv", "csv_file", type=PATH, help="Write the rows here.")
@click.option("--markdown", "markdown_file", type=PATH, help="Write the table here.")
@click.option("--html", "html_file", type=PATH, help="Write the report page here.")
@click.option(
    "--interleave",
    is_flag=True,
    help="Measure artefacts in turns, so that noise cannot distort ratios.",
)
@click.option(
    "--sustained", type=float, metavar="MINUTES", help="Keep running, to see how latency drifts."
)
@click.option("--throughput", is_flag=True, help="Measure parallel requests as well.")
@click.option(
    "--layers", is_flag=True, help="Compare artefacts with the --reference model layer by layer."
)
@click.option(
    "--calibration",
    type=PATH,
    help="The photos that artefacts were made with, for --layers where those have a --width.",
)
@click.option(
    "--resume",
    type=PATH,
    metavar="FOLDER",
    help="Folder for logits; continue from those of an interrupted run.",
)
@click.option(
    "--host",
    metavar="USER@HOST",
    help="Measure on this machine: whatever ssh reaches, with Python 3.11 or newer; adb:SERIAL for "
    "an Android device.",
)
@click.option(
    "--remote-dir",
    type=click.Path(path_type=PurePosixPath),
    help="Folder on the host for the environment and the files.  [default: .cache/vitedge; over "
    "adb /data/local/tmp]",
)
@click.option(
    "--benchmark-model",
    type=PATH,
    metavar="FILE",
    help="LiteRT's program of that name for the Android device that --host names.",
)
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
    layers: bool,
    calibration: Path | None,
    resume: Path | None,
    host: str | None,
    remote_dir: PurePosixPath | None,
    benchmark_model: Path | None,
    force: bool,
) -> None:
    """Measures ARTIFACTS (files or folders): latency, memory, accuracy, agreement, placement.

    Each row is measured in a process of its own. Without ARTIFACTS, the command measures those in
    the current folder or, if there are none, the built-in digits model.
    """
    from dataclasses import replace

    from vitedge.api.bench import bench
    from vitedge.bench.request import write_reports
    from vitedge.files.staging import refuse_existing
    from vitedge.report.shown import print_shown
    from vitedge.terminal.display import progress_on_stderr

    to_stdout = json_file is not None and str(json_file) == "-"
    files = {
        "json": None if to_stdout else json_file,
        "csv": csv_file,
        "markdown": markdown_file,
        "html": html_file,
    }
    refuse_existing(
        [path for path in files.values() if path is not None], force=force, streams=True
    )
    if host is None:
        when_interrupted(
            f"what was computed is kept in '{resume}'; the same command goes on"
            if resume is not None and data is not None
            else "nothing is kept; with --data, --resume FOLDER keeps what is computed"
        )
    with progress_on_stderr() as progress:
        report = bench(
            artifacts,
            targets=wanted,
            data=data,
            reference=reference,
            threads=threads,
            runs=runs,
            interleave=interleave,
            sustained=sustained,
            throughput=throughput,
            layers=layers,
            calibration=calibration,
            resume=resume,
            host=host,
            remote_dir=remote_dir,
            benchmark_model=benchmark_model,
            progress=progress,
            warn=warn,
        )
    report = replace(report, command=command_line())
    write_reports(report, files)
    if to_stdout:
        click.echo(report.to_json())
    else:
        print_shown(report)
        say_written(files.values())
    failed = [row for row in report.rows if row.status in _FAILURES]
    if failed:
        raise VitedgeError(f"{len(failed)} of {len(report.rows)} rows failed")
    if not any(row.was_loaded for row in report.rows):
        raise VitedgeError("nothing could be run")


PLUGIN = bench
