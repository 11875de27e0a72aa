"""The parts of a bench's JSON that a check needs; reports of older versions may lack some."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.bench.accuracy import right_bits
from vitedge.bench.quality import Drop
from vitedge.bench.results import Status
from vitedge.errors import UsageError
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
        unstable: Why the times are not to be trusted much; empty when they are.
        median_ms: Latency; None without times.
        ratio: Latency over float32's, measured in turns; or None.
        threads: CPU threads.
        top1: Accuracy, or None.
        drop: Top-1 lost against float32, or None.
        placement: Nodes on the device, or None where the runtime does not tell.
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
    placement: Placement | None


@dataclass(frozen=True)
class ReportFile:
    """A report as it was read back.

    Attributes:
        path: The file.
        cpu: Processor of the machine.
        images: Digest of the images that accuracy was measured on; empty when unknown.
        rows: By artefact and target.
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
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the report '{path}' ({error})") from error
    try:
        folder = _common_folder([row["artifact"] for row in report["rows"]])
        rows = [_row(values, folder) for values in report["rows"]]
        return ReportFile(
            path=path,
            cpu=report["environment"]["cpu"],
            images=(report["data"] or {}).get("sha256", ""),
            rows={(row.artifact, row.target): row for row in rows},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"'{path}' is no report of vitedge bench --json ({type(error).__name__}: {error})"
        ) from error


def _common_folder(artifacts: list[str]) -> str:
    folders = {os.path.dirname(artifact) for artifact in artifacts}
    return folders.pop() if len(folders) == 1 else ""


def _row(values: Mapping[str, Any], folder: str) -> ReportRow:
    artifact, spread, ratio = values["artifact"], values["latency_ms"], values.get("ratio")
    vs_float, placement = values["vs_float"] or {}, values["placement"]
    drop = vs_float.get("drop")
    median = None
    if spread is not None:
        median = spread["mean"] if spread["p50"] is None else spread["p50"]
    return ReportRow(
        artifact=artifact.removeprefix(folder).lstrip("/\\") if folder else artifact,
        target=values["target"],
        is_float32=values["precision"] == "fp32",
        status=Status(values["status"]),
        message=values["message"],
        unstable=values.get("unstable", ""),
        median_ms=median,
        ratio=None if ratio is None else ratio["median"],
        threads=values["threads"],
        top1=None if values["accuracy"] is None else _top_one(values["accuracy"]),
        drop=None if drop is None else Drop(**drop),
        placement=None if placement is None else Placement(**placement),
    )


def _top_one(accuracy: Mapping[str, Any]) -> TopOne:
    encoded = accuracy.get("right")
    return TopOne(
        percent=accuracy["top1"],
        low=accuracy["top1_low"],
        high=accuracy["top1_high"],
        n=accuracy["n"],
        right=right_bits(encoded) if encoded else None,
    )
