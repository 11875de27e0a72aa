"""`vitedge bench`: artefacts are measured."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import click

from vitedge.commands.options import PATH, force_option, read_targets
from vitedge.errors import UsageError, VitedgeError
from vitedge.terminal.output import command_line, warn, when_interrupted

# Statuses of a bench that a script must notice. UNAVAILABLE is an answer, SLOWER a finding.
_FAILURES = ("CRASHED", "TIMEOUT", "ERROR", "DRIFT", "FALLBACK")


@click.command()
@click.argument("artifacts", nargs=-1, type=PATH)
@click.option("--target", "wanted", multiple=True, help="Where to run; may repeat.  [default: all]")
@click.option(
    "--data",
    type=PATH,
    help="Images to measure accuracy on: class folders, a folder with labels.csv, a .csv, an .npz, "
    "or CIFAR's binary batches.",
)
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
@click.option(
    "--layers", is_flag=True, help="Compare artefacts with the --reference model layer by layer."
)
@click.option(
    "--resume",
    type=PATH,
    metavar="FOLDER",
    help="Keep logits here, and go on from those that an interrupted run left.",
)
@click.option(
    "--host",
    metavar="USER@HOST",
    help="Measure on this machine: whatever ssh reaches, with Python 3.11 or newer.",
)
@click.option(
    "--remote-dir",
    type=click.Path(path_type=PurePosixPath),
    default=PurePosixPath(".cache/vitedge"),
    show_default=True,
    help="Folder on the host for the environment and the files.",
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
    resume: Path | None,
    host: str | None,
    remote_dir: PurePosixPath,
    force: bool,
) -> None:
    """Measures ARTIFACTS (files or folders): latency, memory, accuracy, agreement, placement.

    Each row is measured in a process of its own. Without ARTIFACTS, those in the current folder
    are taken; if there are none, the built-in digits model.
    """
    from dataclasses import replace

    from vitedge.bench.request import Request, measure, write_reports
    from vitedge.bench.run import BenchOptions
    from vitedge.commands.printed.tables import print_report
    from vitedge.files.staging import refuse_existing
    from vitedge.terminal.display import progress_on_stderr

    if layers and (reference is None or host is not None):
        raise UsageError("--layers needs the model as --reference, and no --host")
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
    request = Request(
        artifacts=artifacts,
        targets=read_targets(wanted),
        data=data,
        reference=reference,
        options=BenchOptions(
            threads=threads,
            runs=runs,
            interleave=interleave,
            sustained_minutes=sustained,
            throughput=throughput,
            resume=resume,
        ),
    )
    if host is None:
        when_interrupted(
            f"what was computed is kept in '{resume}'; the same command goes on"
            if resume is not None and data is not None
            else "nothing is kept; with --data, --resume FOLDER keeps what is computed"
        )
    with progress_on_stderr() as progress:
        network = None
        if layers and reference is not None:
            from vitedge.importers import read_model

            network = read_model(reference).network
            request = replace(request, network=network)
        if host is None:
            report = measure(request, progress=progress, warn=warn)
        else:
            from vitedge.remote.bench import measure_on

            report = measure_on(host, remote_dir, request, progress=progress, say=warn)
        if reference is not None and network is not None:
            from vitedge.inspection.compare import compare_all

            compared = compare_all(reference, network, report, data, progress=progress)
            report = replace(report, layers=compared)
    report = replace(report, command=command_line())
    write_reports(report, files)
    if to_stdout:
        click.echo(report.to_json())
    else:
        print_report(report)
    failed = [row for row in report.rows if row.status in _FAILURES]
    if failed:
        raise VitedgeError(f"{len(failed)} of {len(report.rows)} rows failed")
    if not any(row.was_loaded for row in report.rows):
        raise VitedgeError("nothing could be run")


PLUGIN = bench
