"""Decides what passes and what fails; each rule is a function of its own.

A rule decides by the numbers as they were measured, not by their intervals: on the same images an
artefact's accuracy is the same at every run, so a build does not fail by chance. The interval is
in the words, for whoever has to decide what a failure means. What cannot be compared although it
was asked for fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from vitedge.bench.spread import paired_drop, unpaired_drop
from vitedge.check.measure_limits import MeasureLimit, held
from vitedge.check.report_file import ReportFile, ReportRow, TopOne
from vitedge.errors import UsageError
from vitedge.report.quality import Drop
from vitedge.report.results import Status

DEFAULT_DROP, DEFAULT_SLOWDOWN = 0.5, 1.2
"""Limits against a baseline where none is given: half a point of top-1, a fifth more time. That is
what the noise of 500 photos and of a shared machine leaves room for."""

_BROKEN = (Status.CRASHED, Status.TIMEOUT, Status.ERROR)


class Kind(StrEnum):
    """The subject of a check; when several fail, the exit code is that of the first."""

    RUN = "run"
    ACCURACY = "accuracy"
    LATENCY = "latency"
    DEVICE = "device"

    @property
    def exit_code(self) -> int:
        """The exit code of ``vitedge check`` if such a check fails; 2 is a wrong request."""
        return {Kind.RUN: 1, Kind.ACCURACY: 3, Kind.LATENCY: 4, Kind.DEVICE: 5}[self]


class Outcome(StrEnum):
    """The result of a check."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One check of one row.

    Attributes:
        artifact: The row's artefact.
        target: The row's target in words.
        kind: The kind of check.
        outcome: The result of the check.
        words: The numbers, and the limit.
    """

    artifact: str
    target: str
    kind: Kind
    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Limits:
    """The limits that a report must keep.

    Attributes:
        max_drop: Top-1 that may be lost, in percentage points: against the baseline, without one
            against float32 in the same report. None does not check.
        max_slowdown: Latency over the baseline's. None does not check.
        require_device: Whether every node must have run on the device that was asked for.
        measures: Limits of single measures, in every row.
    """

    max_drop: float | None = None
    max_slowdown: float | None = None
    require_device: bool = False
    measures: tuple[MeasureLimit, ...] = ()

    def for_baseline(self) -> Limits:
        """The default limits where a baseline is to be held and nobody gave a limit."""
        if self.max_drop is not None or self.max_slowdown is not None:
            return self
        return replace(self, max_drop=DEFAULT_DROP, max_slowdown=DEFAULT_SLOWDOWN)


def check(report: ReportFile, baseline: ReportFile | None, limits: Limits) -> tuple[Finding, ...]:
    """Every rule on every row.

    A baseline without any limit is held by the default ones. They were not asked for, so what
    cannot be compared by them is skipped.

    Raises:
        UsageError: A slowdown is limited, but there is no baseline; or there is nothing to check.
    """
    if limits.max_slowdown is not None and baseline is None:
        raise UsageError("--max-slowdown needs an older report to compare with: give --baseline")
    if not report.rows:
        raise UsageError(f"'{report.path}' has no rows to check")
    asked = limits
    if baseline is not None:
        limits = limits.for_baseline()
    incomparable = Outcome.FAILED if limits is asked else Outcome.SKIPPED
    findings: list[Finding] = []
    for key, row in report.rows.items():
        before = None if baseline is None else baseline.rows.get(key)
        findings += _run(row, before)
        if row.status in _BROKEN:
            continue
        findings += _device(row, limits)
        if row.status is not Status.UNAVAILABLE:
            findings += _measured(row, limits)
            findings += _accuracy(row, report, before, baseline, limits.max_drop, incomparable)
            findings += _latency(row, report, before, baseline, limits.max_slowdown, incomparable)
    for key, gone in (baseline.rows if baseline else {}).items():
        if key not in report.rows:
            words = "is in the baseline, but not in the report"
            findings.append(_finding(gone, Kind.RUN, Outcome.FAILED, words))
    return tuple(findings)


def what_was_checked(findings: tuple[Finding, ...]) -> str:
    """One line: each kind with how many rows it was checked of, and what was not checked at all."""
    done, left_out = [], []
    for kind in Kind:
        of_kind = [each for each in findings if each.kind is kind]
        checked = sum(each.outcome is not Outcome.SKIPPED for each in of_kind)
        if checked:
            done.append(f"{kind} ({checked} of {len(of_kind)} rows)")
        else:
            left_out.append(f"{kind}{_how_to_check(kind, of_kind)}")
    words = f"checked: {', '.join(done) or 'nothing'}"
    return f"{words}; not checked: {', '.join(left_out)}" if left_out else words


def _how_to_check(kind: Kind, skipped: list[Finding]) -> str:
    if skipped and kind is not Kind.DEVICE:
        return " (nothing to compare)"
    flags = {
        Kind.ACCURACY: "give --max-drop or --limit",
        Kind.LATENCY: "give --baseline and --max-slowdown",
        Kind.DEVICE: "give --require-device",
    }
    return f" ({flags[kind]})" if kind in flags else ""


def exit_code(findings: tuple[Finding, ...]) -> int:
    """0 when nothing failed, else that of the first kind that did."""
    failed = {finding.kind for finding in findings if finding.outcome is Outcome.FAILED}
    return next((kind.exit_code for kind in Kind if kind in failed), 0)


def _finding(row: ReportRow, kind: Kind, outcome: Outcome, words: str) -> Finding:
    return Finding(row.artifact, row.target, kind, outcome, words)


def _run(row: ReportRow, before: ReportRow | None) -> Iterator[Finding]:
    words = f"{row.status}: {row.message}" if row.message else str(row.status)
    if row.status in _BROKEN:
        yield _finding(row, Kind.RUN, Outcome.FAILED, words)
    elif row.status is not Status.UNAVAILABLE:
        yield _finding(row, Kind.RUN, Outcome.PASSED, words)
    elif before is not None and before.status is not Status.UNAVAILABLE:
        yield _finding(row, Kind.RUN, Outcome.FAILED, f"{words} (it ran in the baseline)")
    else:
        yield _finding(row, Kind.RUN, Outcome.SKIPPED, words)


def _device(row: ReportRow, limits: Limits) -> Iterator[Finding]:
    device = row.target.partition("-")[2]
    if row.placement is not None:
        words = f"{row.placement.on_device} of {row.placement.total} nodes ran on {device}"
    elif row.message:
        words = row.message
    else:
        words = f"the runtime does not tell which nodes ran on {device}"
    if not limits.require_device:
        if row.status is Status.FALLBACK:
            yield _finding(row, Kind.DEVICE, Outcome.SKIPPED, f"{words}; not required")
        return
    # Where there is nothing but the processor, nothing else can have run.
    is_known = row.placement is not None or device == "cpu"
    is_there = row.status not in (Status.FALLBACK, Status.UNAVAILABLE) and is_known
    yield _finding(row, Kind.DEVICE, Outcome.PASSED if is_there else Outcome.FAILED, words)


def _accuracy(
    row: ReportRow,
    report: ReportFile,
    before: ReportRow | None,
    baseline: ReportFile | None,
    limit: float | None,
    incomparable: Outcome,
) -> Iterator[Finding]:
    if row.status is Status.DRIFT:
        yield _finding(row, Kind.ACCURACY, Outcome.FAILED, f"DRIFT: {row.message}")
        return
    if limit is None:
        return
    if baseline is None:
        drop, than = row.drop, "float32"
        lacks = "the report does not compare it with float32: bench with --data and --reference"
    elif before is None:
        yield _finding(row, Kind.ACCURACY, Outcome.SKIPPED, "not in the baseline")
        return
    else:
        drop, than = _drop_since(row, before, report.images == baseline.images != ""), "before"
        lacks = "one of the reports has no accuracy: bench with --data"
        if row.drop_of != "top-1":
            lacks = (
                f"no {row.drop_of} of the same images in both: bench with --data and --reference"
            )
    if drop is None:
        yield _finding(row, Kind.ACCURACY, incomparable, lacks)
        return
    others = "" if baseline is None or report.images == baseline.images else ", on other images"
    words = (
        f"{_points(drop.points)} of {row.drop_of} than {than} (95 %: {drop.low:+.1f} to "
        f"{drop.high:+.1f} points lost, {drop.n} images{others}); at most {limit:g} may be lost"
    )
    outcome = Outcome.FAILED if drop.points > limit else Outcome.PASSED
    yield _finding(row, Kind.ACCURACY, outcome, words)


def _measured(row: ReportRow, limits: Limits) -> Iterator[Finding]:
    for passes, words in held(row.measures, limits.measures):
        yield _finding(row, Kind.ACCURACY, Outcome.PASSED if passes else Outcome.FAILED, words)


def _points(lost: float) -> str:
    if lost == 0:
        return "no less"
    return f"{abs(lost):.2f} points {'less' if lost > 0 else 'more'}"


def _drop_since(row: ReportRow, before: ReportRow, same_images: bool) -> Drop | None:
    """Points lost since the baseline; of what is not top-1, by what both lost against float32."""
    if row.drop_of == before.drop_of == "top-1":
        return _drop(row.top1, before.top1, same_images)
    now, then = row.drop, before.drop
    if now is None or then is None or row.drop_of != before.drop_of or not same_images:
        return None
    lost = now.points - then.points
    half = math.hypot(now.high - now.points, then.high - then.points)
    return Drop(lost, lost - half, lost + half, now.n)


def _drop(now: TopOne | None, before: TopOne | None, same_images: bool) -> Drop | None:
    if now is None or before is None:
        return None
    ours, theirs = now.right, before.right
    if same_images and now.n == before.n and ours is not None and theirs is not None:
        if ours.shape != theirs.shape:
            return None  # one of the two does not say the truth of its images
        return paired_drop(int((theirs & ~ours).sum()), int((ours & ~theirs).sum()), now.n)
    return unpaired_drop(
        (before.percent, before.low, before.high), (now.percent, now.low, now.high), now.n
    )


def _latency(
    row: ReportRow,
    report: ReportFile,
    before: ReportRow | None,
    baseline: ReportFile | None,
    limit: float | None,
    incomparable: Outcome,
) -> Iterator[Finding]:
    if limit is None or baseline is None:
        return
    if before is None or before.median_ms is None:
        yield _finding(row, Kind.LATENCY, Outcome.SKIPPED, "no times in the baseline")
        return
    if row.median_ms is None:
        yield _finding(row, Kind.LATENCY, incomparable, "no times, but the baseline has some")
        return
    if row.ratio is not None and before.ratio is not None:
        slowdown = row.ratio / before.ratio
        numbers = f"{row.ratio:.2f} x the time of float32 in turns, before {before.ratio:.2f}"
    elif (report.cpu, row.threads) == (baseline.cpu, before.threads):
        slowdown = row.median_ms / before.median_ms
        numbers = f"{row.median_ms:.3g} ms, before {before.median_ms:.3g}"
    elif row.is_float32:
        words = f"'{baseline.cpu}', {before.threads} threads before: other times"
        yield _finding(row, Kind.LATENCY, Outcome.SKIPPED, words)
        return
    else:
        words = (
            f"the baseline is of '{baseline.cpu}' with {before.threads} threads, this is "
            f"'{report.cpu}' with {row.threads}; times of different machines are compared only as "
            "ratios: bench float32 too, with --interleave, for both reports"
        )
        yield _finding(row, Kind.LATENCY, incomparable, words)
        return
    words = f"{numbers}: {slowdown:.2f} x; at most {limit:g} x"
    if row.unstable:
        words += f" (unstable: {row.unstable})"
    outcome = Outcome.FAILED if slowdown > limit else Outcome.PASSED
    yield _finding(row, Kind.LATENCY, outcome, words)
