"""A runtime whose devices behave as badly as real ones have been seen to.

Worker processes find it the way they find any foreign runtime, through an entry point. Its
artefacts are any ``.onnx`` file; its model is ``linear_logits``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitedge.errors import ModelError
from vitedge.runtimes import Availability, Placement, Readiness
from vitedge.targets.formats import Format

SIZE, CLASSES = 4, 3
DEVICES = (
    *("good", "slow", "coarse", "wrong"),
    *("abort", "segfault", "exit", "hang", "nan", "zeros", "constant", "refusing", "leaving"),
    *("emulated", "missing", "fragile", "chatty", "pairs"),
)


def linear_logits(pixels: np.ndarray) -> np.ndarray:
    """Logits ``(N, 3)``: the mean of each colour."""
    return pixels.reshape(len(pixels), -1, 3).mean(axis=1, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class FakeRuntime:
    name: str = "fake"
    format: Format = Format.ONNX
    devices: tuple[str, ...] = DEVICES

    def availability(self, device: str) -> Availability:
        match device:
            case "missing":
                return Availability(Readiness.MISSING, "no fake driver", "Run: pip install fake")
            case "emulated":
                return Availability(Readiness.EMULATED, "fake emulator")
            case "fragile":
                os.abort()
        return Availability(Readiness.READY, "fake 1.0")

    def open(self, path: Path, device: str, *, threads: int | None = None) -> FakeSession:
        if device == "refusing":
            raise ModelError(f"the fake refuses\n'{path}'")
        return FakeSession(device)


class FakeSession:
    def __init__(self, device: str) -> None:
        self._device = device
        self._runs = 0

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return (2 if self._device == "pairs" else 1, SIZE, SIZE, 3)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self._runs += 1
        logits = linear_logits(pixels)
        match self._device:
            case "abort":
                os.abort()
            case "segfault":
                import signal

                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                print("the vendor's licence has expired", file=sys.stderr, flush=True)
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "nan":
                return np.full_like(logits, np.nan)
            case "zeros":
                return np.zeros_like(logits)
            case "constant":
                return np.ones_like(logits)
            case "slow":
                time.sleep(0.003)
            case "coarse":
                return np.round(logits / 64) * np.float32(64)
            case "wrong":
                return logits[:, ::-1].copy()
            case "chatty":
                os.write(1, b'{"kind": "Progress", "done": 1}\nhello from a vendor library\n')
        return logits

    def placement(self) -> Placement | None:
        return Placement(7, 9) if self._device == "leaving" else Placement(9, 9)

    def close(self) -> None:
        pass


PLUGIN = FakeRuntime()
ANOTHER = FakeRuntime("another", devices=("cpu",))  # sorted before every real one of ONNX
FEW = FakeRuntime("few", devices=("good", "emulated", "missing", "fragile"))
