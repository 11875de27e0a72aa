"""A runtime without an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import UnavailableError
from vitedge.runtimes import Availability, Placement, Readiness, Runtime
from vitedge.targets.fits import Fit
from vitedge.targets.formats import Format

_READY = Availability(Readiness.READY, "a stand-in")


def mean_of_channels(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Logits ``(N, C)``: the mean of each channel of pixels ``(N, H, W, C)``."""
    return np.asarray(np.mean(pixels, axis=(1, 2)), np.float32)


@dataclass(frozen=True)
class FakeRuntime:
    """A ``vitedge.runtimes.Runtime`` that computes a function of the pixels.

    It keeps the whole contract, so that what uses runtimes can be tested where there are none, and
    shows how little a runtime has to do::

        runtime = FakeRuntime("mine", devices=("npu",))
        with closing(runtime.open(Path("model.onnx"), "npu")) as session:
            session.run(np.zeros(session.input_shape, np.uint8))

    Attributes:
        name: The part of its targets before the dash.
        format: The format that it says it reads; files are never opened.
        devices: The parts of its targets after the dash.
        states: Whether a device is here; those that are not named are ready.
        fits: The precisions that a device takes, for ``convert --for``; for devices that are not
            named it is unknown.
        input_shape: Shape of the pixels of one run, ``(N, H, W, C)``.
        logits: Computes float32 logits ``(N, classes)`` of pixels.
        placed: The placement that every session reports; None reports nothing.
    """

    name: str = "fake"
    format: Format = Format.ONNX
    devices: tuple[str, ...] = ("cpu",)
    states: Mapping[str, Availability] = field(default_factory=dict)
    fits: Mapping[str, Fit] = field(default_factory=dict)
    input_shape: tuple[int, int, int, int] = (1, 4, 4, 3)
    logits: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]] = mean_of_channels
    placed: Placement | None = None

    def availability(self, device: str) -> Availability:
        """Answers with ``states``."""
        return self.states.get(device, _READY)

    def fit(self, device: str) -> Fit | None:
        """Answers with ``fits``."""
        return self.fits.get(device)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> FakeSession:
        """A session, unless the device is missing."""
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(state.detail, state.remedy)
        return FakeSession(self)


_CONTRACT: type[Runtime] = FakeRuntime  # a type checker compares them


class FakeSession:
    """A session of a ``FakeRuntime``.

    Args:
        runtime: The runtime that it belongs to.

    Attributes:
        runs: The number of runs.
        is_closed: Whether it was closed.
    """

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.runs = 0
        self.is_closed = False

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the pixels of one run."""
        return self._runtime.input_shape

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The runtime's ``logits`` of the pixels.

        Raises:
            RuntimeError: The session was closed: a fault of whoever calls.
            ValueError: The pixels have another shape than ``input_shape``.
        """
        if self.is_closed:
            raise RuntimeError("the session was closed")
        if pixels.shape != self.input_shape:
            raise ValueError(f"pixels are {pixels.shape}, not {self.input_shape}")
        self.runs += 1
        return self._runtime.logits(pixels)

    def placement(self) -> Placement | None:
        """The runtime's ``placed``."""
        return self._runtime.placed

    def close(self) -> None:
        """Closes it; a second time does nothing."""
        self.is_closed = True
