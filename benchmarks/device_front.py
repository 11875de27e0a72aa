"""Constant merging for devices that cannot sort: does each take all of it, and at what cost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders import say

import vitedge
from vitedge.errors import VitedgeError
from vitedge.images.image_sets import ImageSet
from vitedge.runtimes import Readiness, runtime_for
from vitedge.runtimes._vela import run_vela
from vitedge.targets.target import Target

TARGETS = ("tflite-gpu", "onnx-qnn", "ethos-u")

_CHIP = "u85-2048"


@dataclass(frozen=True)
class DeviceRow:
    """One target, with all tokens or fewer.

    Attributes:
        target: Its name.
        tokens: ``all``, or the share of the work.
        operators: The operators of the file.
        work: Multiply-accumulates over those with all tokens.
        merged: The places where tokens are merged, and what that alone changes, in words.
        placed: The nodes that the device takes, in words.
        estimate_ms: Vela's estimate for one Ethos-U85; None elsewhere.
    """

    target: str
    tokens: str
    operators: int
    work: float
    merged: str
    placed: str
    estimate_ms: float | None


def device_rows(
    source: Path, folder: Path, calibration: ImageSet, share: float, targets: Sequence[str]
) -> list[DeviceRow]:
    """A row for each target with all tokens, and one with those that a constant matrix leaves."""
    rows = []
    for name in targets:
        for tokens in (None, share):
            say(f"converting for {name}, tokens {tokens or 'all'}")
            made = folder / name / f"{tokens or 'all'}"
            try:
                rows.append(_row(source, made, calibration, Target.parse(name), tokens))
            except VitedgeError as error:
                say(f"{name}, tokens {tokens or 'all'}: {error}")
    return rows


def _row(
    source: Path, made: Path, calibration: ImageSet, target: Target, tokens: float | None
) -> DeviceRow:
    converted = vitedge.convert(
        source,
        targets=target,
        calibration=calibration,
        tokens=tokens,
        output=made,
        force=True,
    )
    artifact = converted.artifacts[0]
    merging = artifact.metadata.merging
    return DeviceRow(
        str(target),
        "all" if tokens is None else f"{tokens:g}",
        _operators(artifact.path),
        1.0 if merging is None else merging.share,
        "" if merging is None else merging.words,
        _placed(artifact.path, target),
        run_vela(artifact.path, _CHIP).inference_ms if target.runtime == "ethos" else None,
    )


def _operators(path: Path) -> int:
    if path.suffix == ".onnx":
        import onnx

        return len(onnx.load(path, load_external_data=False).graph.node)
    from ai_edge_litert.interpreter import Interpreter

    # The private name is the only way; without a delegate these are the operators of the file.
    return len(Interpreter(str(path), num_threads=1)._get_ops_details())


def _placed(path: Path, target: Target) -> str:
    """The nodes that the device or its emulator takes, or why that cannot be told here."""
    runtime = runtime_for(target)
    state = runtime.availability(target.device)
    if state.readiness is Readiness.MISSING:
        return f"{target} is not here, so whether it takes every node was not tried"
    session = runtime.open(path, target.device)
    try:
        placement = session.placement()
    finally:
        session.close()
    return "" if placement is None else f"{placement.on_device} of {placement.total} on the device"
