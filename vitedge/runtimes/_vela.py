"""Vela, Arm's compiler for Ethos-U: what it compiles, leaves to the CPU and predicts."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vitedge.errors import ModelError
from vitedge.files.temporary import temporary_folder

_SHARE = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
_REFUSED = re.compile(r"operator: (\w+), ofm: '([^']*)'\s*\n\s*Reason: ([^\n]*)")


@dataclass(frozen=True)
class Compiled:
    """The result of Vela for one chip.

    Attributes:
        chip: Such as ``u55-128``.
        npu_operators: Operators that the NPU runs; Vela splits and fuses, so they are not the
            file's.
        cpu_operators: Operators left to the CPU.
        refused: Operator, name of its output and Vela's reason, of those that Vela explains.
        inference_ms: Vela's prediction of one inference on the NPU; 0 when nothing is on it.
    """

    chip: str
    npu_operators: int
    cpu_operators: int
    refused: tuple[tuple[str, str, str], ...]
    inference_ms: float


def run_vela(path: Path, chip: str, output: Path | None = None) -> Compiled:
    """Compiles a TFLite file; its metadata stays in the output.

    Args:
        path: The file.
        chip: Generation and number of multipliers: ``u55-128``.
        output: The place for the compiled file; None throws it away.

    Raises:
        ModelError: Vela fails; the message is the last line it says.
    """
    with temporary_folder("vitedge-vela-") as folder:
        command = [sys.executable, "-P", "-m", "ethosu.vela", str(path)]
        command += ["--output-dir", str(folder), "--accelerator-config", f"ethos-{chip}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        share = {kind: int(count) for kind, count in _SHARE.findall(ended.stdout)}
        compiled = folder / f"{path.stem}_vela.tflite"
        if ended.returncode or set(share) != {"CPU", "NPU"} or not compiled.is_file():
            lines = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()
            raise ModelError(f"Vela cannot compile '{path}' for Ethos-{chip}: {lines[-1]}")
        if output is not None:
            shutil.move(compiled, output)
        return Compiled(
            chip=chip,
            npu_operators=share["NPU"],
            cpu_operators=share["CPU"],
            refused=tuple(_REFUSED.findall(ended.stdout)),
            inference_ms=_inference_ms(folder) if share["NPU"] else 0.0,
        )


def _inference_ms(folder: Path) -> float:
    # Seconds, in the summary only.
    (summary,) = folder.glob("*_summary_*.csv")
    with summary.open(newline="", encoding="utf-8") as stream:
        return 1000.0 * float(next(csv.DictReader(stream))["inference_time"])
