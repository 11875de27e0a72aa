"""`vitedge check`: a report is held against limits and an older report."""

from __future__ import annotations

from pathlib import Path

import click

from vitedge.commands.grouped import GroupedCommand
from vitedge.commands.options import PATH, force_option, json_option
from vitedge.terminal.output import echo, print_json


@click.command(cls=GroupedCommand)
@click.argument("report", type=PATH)
@click.option("--baseline", type=PATH, help="An older report to compare with.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0),
    metavar="POINTS",
    help="Top-1 that may be lost against the baseline; without one, against float32. For outputs "
    "other than classes, the points lost that `bench` prints.  [default with a baseline: 0.5]",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="MEASURE>=N",
    help="Bound on a measure of the report in each row: 'cosine>=0.99', 'relative error<=5'.",
)
@click.option(
    "--max-slowdown",
    type=click.FloatRange(0, min_open=True),
    metavar="RATIO",
    help="Latency divided by the baseline's: 1.2 is a fifth slower."
    "  [default with a baseline: 1.2]",
)
@click.option(
    "--require-device", is_flag=True, help="All nodes must have run on the chosen device."
)
@click.option("--junit", "junit_file", type=PATH, help="Write the checks here, as JUnit XML.")
@force_option
@json_option
def check(
    report: Path,
    baseline: Path | None,
    max_drop: float | None,
    max_slowdown: float | None,
    require_device: bool,
    limits: tuple[str, ...],
    junit_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Checks REPORT, the JSON of a bench, for a build that must not get worse.

    With a baseline and without --max-drop and --max-slowdown, both limits have their defaults, and
    a measure that only one of the reports has is skipped. The last line says which checks were
    made.

    Exit codes: 0 if all checks passed, 1 if a row did not run, 2 if the request is wrong, 3 for
    accuracy, 4 for latency, 5 for nodes off the device. If several checks fail, the smallest code.
    """
    from dataclasses import asdict

    from vitedge.check.junit import render_junit
    from vitedge.check.measure_limits import MeasureLimit
    from vitedge.check.report_file import read_report
    from vitedge.check.rules import Limits, Outcome, check, exit_code, what_was_checked
    from vitedge.files.staging import refuse_existing, write_whole

    if junit_file is not None:
        refuse_existing([junit_file], force=force, streams=True)
    findings = check(
        read_report(report),
        None if baseline is None else read_report(baseline),
        Limits(max_drop, max_slowdown, require_device, tuple(map(MeasureLimit.parse, limits))),
    )
    if junit_file is not None:
        write_whole(junit_file, render_junit(findings))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for found in findings:
            words = f"{found.artifact} on {found.target}: {found.words}"
            echo(f"{found.outcome:8}{found.kind:10}{words}")
        failed = sum(found.outcome is Outcome.FAILED for found in findings)
        echo(f"{failed} of {len(findings)} checks failed")
        echo(what_was_checked(findings))
    click.get_current_context().exit(exit_code(findings))


PLUGIN = check
