"""The parts of a bench's JSON that a check needs; reports of older versions may lack some."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.bench.accuracy import right_bits
from vitedge.errors import UsageError
from vitedge.files.json_values import mapping, number, objects, parse_object, text, whole
from vitedge.files.limits import refuse_long_text
from vitedge.report.quality import Drop
from vitedge.report.results import Status
from vitedge.runtimes import Placement


@dataclass(frozen=True)
class TopOne:
    """Accuracy of a row: percent, its 95 % interval, the number of images, and which are right.

    Attributes:
        percent: Top-1.
        low: Lower end of its interval.
        high: Upper end.
        n: Labelled images.
        right: bool ``(images,)``, or None in reports that do not say.
    """

    percent: float
    low: float
    high: float
    n: int
    right: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class ReportRow:
    """One artefact on one target.

    Attributes:
        artifact: Its path below the folder that all artefacts share.
        target: Runtime and device in words.
        is_float32: Whether ratios are to it.
        status: The bench's verdict.
        message: The verdict in words.
        unstable: The reason why the times are unreliable; empty if they are reliable.
        median_ms: Latency; None without times.
        ratio: Latency over float32's, measured in turns; or None.
        threads: CPU threads.
        top1: Accuracy, or None.
        drop: Points lost against float32, or None.
        drop_of: The measure whose points are lost.
        placement: Nodes on the device, or None where the runtime does not tell.
        measures: All that its outputs were measured by, by name; of percentages in percent.
    """

    artifact: str
    target: str
    is_float32: bool
    status: Status
    message: str
    unstable: str
    median_ms: float | None
    ratio: float | None
    threads: int
    top1: TopOne | None
    drop: Drop | None
    drop_of: str
    placement: Placement | None
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportFile:
    """A report as it was read back.

    Attributes:
        path: The file.
        cpu: Processor of the machine.
        images: Digest of the images that accuracy was measured on; empty when unknown.
        rows: The rows, by artefact and target.
    """

    path: Path
    cpu: str
    images: str
    rows: Mapping[tuple[str, str], ReportRow]


def read_report(path: Path) -> ReportFile:
    """Reads what ``vitedge bench --json`` wrote.

    Raises:
        UsageError: The file is missing, unreadable or no such report.
    """
    try:
        refuse_long_text(f"'{path}'", path.stat().st_size)
        report = parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the report '{path}' ({error})") from error
    try:
        listed = objects(report, "rows")
        folder = _common_folder([text(row, "artifact") for row in listed])
        rows = [_row(values, folder) for values in listed]
        data = {"sha256": "", **(_optional(report, "data") or {})}
        return ReportFile(
            path=path,
            cpu=text(mapping(report, "environment"), "cpu"),
            images=text(data, "sha256"),
            rows={(row.artifact, row.target): row for row in rows},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"'{path}' is not a report of vitedge bench --json ({type(error).__name__}: {error})"
        ) from error


def _common_folder(artifacts: list[str]) -> str:
    folders = {os.path.dirname(artifact) for artifact in artifacts}
    return folders.pop() if len(folders) == 1 else ""


def _row(values: Mapping[str, Any], folder: str) -> ReportRow:
    artifact, vs_float = text(values, "artifact"), _optional(values, "vs_float") or {}
    spread, ratio = _optional(values, "latency_ms"), _optional(values, "ratio")
    own = _optional({"task_quality": None, **values}, "task_quality")
    drop = _optional(vs_float if own is None else own, "drop")
    accuracy = _optional(values, "accuracy")
    placement = _optional(values, "placement")
    median = None
    if spread is not None:
        median = _positive(spread, "mean" if spread.get("p50") is None else "p50")
    return ReportRow(
        artifact=artifact.removeprefix(folder).lstrip("/\\") if folder else artifact,
        target=text(values, "target"),
        is_float32=values["precision"] == "fp32",
        status=Status(text(values, "status")),
        message=text(values, "message"),
        unstable=text({"unstable": "", **values}, "unstable"),
        median_ms=median,
        ratio=None if ratio is None else _positive(ratio, "median"),
        threads=whole(values, "threads"),
        top1=None if accuracy is None else _top_one(accuracy),
        drop=None if drop is None else _drop(drop),
        drop_of="top-1" if own is None else text(own, "drop_of"),
        placement=None if placement is None else _placement(placement),
        measures=_measures(accuracy or {}, vs_float, own or {}),
    )


def _measures(
    accuracy: Mapping[str, Any], vs_float: Mapping[str, Any], own: Mapping[str, Any]
) -> Mapping[str, float]:
    """The measures of a row: accuracy for classes, measures of their own for other outputs."""
    places = (
        (accuracy, "top1", "top-1"),
        (accuracy, "top5", "top-5"),
        (vs_float, "agreement", "agreement"),
    )
    found = {name: number(each, key) for each, key, name in places if each.get(key) is not None}
    for each in (vs_float, own):
        if "sqnr_db" in each:  # null where nothing differs
            found["SQNR"] = math.inf if each["sqnr_db"] is None else number(each, "sqnr_db")
    for each in objects({"measures": [], **own}, "measures"):
        found[text(each, "name")] = number(each, "value")
    return found


def _top_one(accuracy: Mapping[str, Any]) -> TopOne:
    encoded = text(accuracy, "right") if accuracy.get("right") else ""
    right = right_bits(encoded) if encoded else None
    n = whole(accuracy, "n", least=1)
    # Images of the set that have no label are never right.
    if right is not None and not right.sum() <= n <= len(right):
        raise ValueError(f"'right' has {right.sum()} of {len(right)} images right, 'n' is {n}")
    return TopOne(
        percent=number(accuracy, "top1"),
        low=number(accuracy, "top1_low"),
        high=number(accuracy, "top1_high"),
        n=n,
        right=right,
    )


def _drop(values: Mapping[str, Any]) -> Drop:
    points = {key: number(values, key) for key in ("points", "low", "high")}
    return Drop(**points, n=whole(values, "n", least=1))


def _placement(values: Mapping[str, Any]) -> Placement:
    return Placement(whole(values, "on_device"), whole(values, "total"))


def _positive(values: Mapping[str, Any], key: str) -> float:
    value = number(values, key)
    if value <= 0:
        raise ValueError(f"'{key}' is {value}, which takes no time")
    return value


def _optional(values: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """An object that may be null or missing."""
    return None if values.get(key) is None else mapping(values, key)
