"""A toy runtime: all that was written for it is in this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.toys.network_file.file import read
from vitedge.network.evaluate import forward
from vitedge.network.network import Network
from vitedge.runtimes import Availability, Placement, Readiness
from vitedge.targets.fits import Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

TOY = Format.declared("toy")


@dataclass(frozen=True)
class NumPyRuntime:
    name: str = "toy"
    format: Format = TOY
    devices: tuple[str, ...] = ("numpy",)

    def availability(self, device: str) -> Availability:
        return Availability(Readiness.READY, f"numpy {np.__version__}")

    def fit(self, device: str) -> Fit | None:
        return Fit((Precision.FP32,))

    def open(self, path: Path, device: str, *, threads: int | None = None) -> NumPySession:
        return NumPySession(read(path))


@dataclass(frozen=True)
class NumPySession:
    network: Network

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return 1, *self.network.image_shape

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return forward(self.network, pixels)

    def placement(self) -> Placement | None:
        return None

    def close(self) -> None:
        return None


PLUGIN = NumPyRuntime()
