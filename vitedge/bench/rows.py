"""Turns the facts of a trial into a row of the report."""

from __future__ import annotations

import statistics
from pathlib import Path

from vitedge.artifacts.metadata import Metadata, size_of
from vitedge.bench.spread import instability, slowing, summarize
from vitedge.bench.trial import Trial
from vitedge.network.tasks import Task
from vitedge.report.quality import Preparation
from vitedge.report.results import Ratio, Row, Status
from vitedge.runtimes import Placement


def row_of(trial: Trial, ratio: Ratio | None) -> Row:
    """The findings, judged so far only as failed or not."""
    candidate, opened, failure = trial.candidate, trial.opened, trial.failure
    metadata = candidate.metadata
    timed = None if candidate.is_emulated else opened
    inferred = None if candidate.is_emulated else trial.inferred
    runs = len(trial.samples_ms)
    return Row(
        artifact=str(candidate.artifact),
        target=candidate.target,
        format=candidate.format,
        precision=None if metadata is None else metadata.precision,
        status=Status.OK if failure is None else failure.status,
        message="; ".join([*([failure.message] if failure else []), *trial.notes]),
        size_mb=size_mb(candidate.artifact),
        load_ms=None if timed is None else timed.load_ms,
        first_run_ms=None if timed is None else timed.first_run_ms,
        latency_ms=summarize(trial.samples_ms),
        peak_rss_mb=None if trial.inspected is None else trial.inspected.peak_rss_mb,
        accuracy=trial.accuracy,
        vs_float=trial.vs_float,
        placement=_placement(trial),
        emulated=candidate.is_emulated,
        batch=None if opened is None else opened.input_shape[0],
        threads=trial.threads,
        source=None if metadata is None else metadata.source.name,
        source_sha256=None if metadata is None else metadata.source.sha256,
        preprocess_ms=None if inferred is None else summarize(inferred.preprocess_ms),
        postprocess_ms=None if inferred is None else summarize(inferred.postprocess_ms),
        warm_up_runs=None if trial.warm is None else len(trial.warm.samples_ms),
        unstable=_instability(trial),
        samples_ms=tuple(trial.samples_ms),
        others_percent=_others_percent(trial),
        ratio=ratio,
        sustained=tuple(trial.windows),
        throughput=tuple(trial.throughput),
        energy_mj=None if trial.energy_mj is None or not runs else trial.energy_mj / runs,
        battery_mj=_battery_mj(trial),
        task_quality=trial.task_quality,
        merges_tokens=metadata is not None and metadata.merging is not None,
        merging=_merging(metadata),
        narrowing=narrowing_of(metadata),
        preparation=_preparation(trial),
    )


def _merging(metadata: Metadata | None) -> str:
    return "" if metadata is None or metadata.merging is None else metadata.merging.where


def narrowing_of(metadata: Metadata | None) -> str:
    """The heads and hidden channels that an artefact does without, in words."""
    return "" if metadata is None or metadata.narrowing is None else metadata.narrowing.where


def _battery_mj(trial: Trial) -> float | None:
    if not trial.battery_watts or not trial.samples_ms:
        return None
    return statistics.mean(trial.battery_watts) * statistics.mean(trial.samples_ms)


def _preparation(trial: Trial) -> Preparation | None:
    found = trial.inferred
    # A top class is what classes have; whatever else a model gives, it has its own measures.
    if found is None or not found.prepared or trial.task is not Task.CLASSES:
        return None
    return Preparation(
        100 * found.prepared_alike / found.prepared,
        found.prepared_largest,
        found.prepared_mean,
        found.prepared,
    )


def _instability(trial: Trial) -> str:
    if trial.warm is None:
        return ""
    words = instability(
        trial.samples_ms,
        warm=trial.warm.stable,
        others_percent=_others_percent(trial),
        throttled=trial.throttled,
    )
    sustained = slowing([window.median_ms for window in trial.windows])
    return "; ".join(word for word in (words, sustained) if word)


def _others_percent(trial: Trial) -> float | None:
    return statistics.mean(trial.others_percent) if trial.others_percent else None


def size_mb(artifact: Path) -> float:
    """All files of an artefact, or the main one where others are missing, in 10^6 bytes."""
    try:
        return size_of(artifact) / 1e6
    except OSError:  # an .xml without its .bin
        return artifact.stat().st_size / 1e6


def _placement(trial: Trial) -> Placement | None:
    found = trial.inspected
    if found is None or found.on_device is None or found.total is None:
        return None
    return Placement(found.on_device, found.total)
