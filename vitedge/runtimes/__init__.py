"""The runtimes that execute artefacts. A module in this package that ends ``PLUGIN = ...`` is one.

Packages outside may add theirs under the entry point group ``vitedge.runtimes``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, UsageError, nearest_of
from vitedge.files.limits import refuse_inflation
from vitedge.targets.fits import Fit
from vitedge.targets.formats import Format
from vitedge.targets.plugins import discover
from vitedge.targets.target import Target

if TYPE_CHECKING:
    from vitedge.images.preprocess import Preprocessing


class Readiness(StrEnum):
    """Whether a target can run here."""

    READY = "ready"
    EMULATED = "emulated"
    MISSING = "missing"


@dataclass(frozen=True)
class Availability:
    """Whether a target can run here, and what to do when not.

    Attributes:
        readiness: Ready, emulated (its numbers of time do not count) or missing.
        detail: The version or device found, or what is missing in the driver's own words.
        remedy: The command or action that brings what is missing; empty when ready.
    """

    readiness: Readiness
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Placement:
    """The number of nodes that the device asked for executes, of all."""

    on_device: int
    total: int


class Session(Protocol):
    """One artefact, loaded on one device. Not thread-safe."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the pixels that one run takes, ``(N, H, W, C)``."""
        ...

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Computes logits.

        Args:
            pixels: 0..255 of shape ``input_shape``, uint8 or float32; left unchanged.

        Returns:
            float32 logits ``(N, classes)``; the caller's to keep.

        Raises:
            ModelError: The runtime failed to execute the artefact.
        """
        ...

    def placement(self) -> Placement | None:
        """The placement of nodes, from the runtime's own assignment; None when it tells nothing."""
        ...

    def close(self) -> None:
        """Frees the model; the session must not be used again. May be called twice."""
        ...


@runtime_checkable
class EstimatedSession(Protocol):
    """A session whose device is not here, and whose compiler predicts how fast it would be."""

    def estimate(self) -> str:
        """The prediction in words that say whose it is; never a measurement."""
        ...


@runtime_checkable
class OutOfProcessSession(Protocol):
    """A session whose engine computes in another process, which has its own clock and memory."""

    def clock(self) -> float:
        """Seconds that the engine has loaded and computed; carrying pixels to it does not count."""
        ...

    def peak_rss_mb(self) -> float | None:
        """Peak resident set of the engine's process in 10^6 bytes; None where nothing tells it."""
        ...


@runtime_checkable
class PreparingSession(Protocol):
    """A session in whose place apps prepare images with other code than ours."""

    def prepare(self, image: bytes, preprocessing: Preprocessing) -> npt.NDArray[np.uint8] | None:
        """Prepares an image as an app there does.

        Args:
            image: An encoded picture.
            preprocessing: The steps to pixels.

        Returns:
            Pixels, shape ``(H, W, C)``; None where the picture is not read there.
        """
        ...


def clock_of(session: Session) -> Callable[[], float]:
    """The clock, in seconds, by which a session's runs are timed."""
    return session.clock if isinstance(session, OutOfProcessSession) else time.perf_counter


@runtime_checkable
class AheadOfTime(Protocol):
    """A runtime some of whose devices take a form compiled ahead of time."""

    def compiled_forms(self, device: str) -> tuple[str, ...]:
        """Names of the chips to compile for; empty for devices that take artefacts as they are."""
        ...

    def compiler(self, device: str) -> Availability:
        """Whether the compiler is here, as ``Runtime.availability`` says whether the device is.

        The same as that where compiling proves what a run would; another where what is compiled for
        can run only elsewhere.
        """
        ...

    def compile(self, path: Path, device: str, form: str, output: Path) -> None:
        """Compiles an artefact for one chip; the output keeps the artefact's metadata.

        Args:
            path: The artefact; left unchanged.
            device: One of the runtime's devices.
            form: One of ``compiled_forms(device)``.
            output: The file to write, of the same format.

        Raises:
            UnavailableError: The compiler is not here.
            PlacementError: The chip cannot run all operators.
            ModelError: The artefact cannot be compiled.
        """
        ...


@runtime_checkable
class SaysWhatFits(Protocol):
    """A runtime that knows what its devices take."""

    def fit(self, device: str) -> Fit | None:
        """The fit of a device; None where it is not known."""
        ...


@runtime_checkable
class FeatureSession(Protocol):
    """A session that gives the features of artefacts that have them as a second output."""

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Computes what the head reads; like ``Session.run`` in all else.

        Returns:
            float32 features ``(N, width)``; the caller's to keep.

        Raises:
            ModelError: The artefact has no second output, or the runtime failed.
        """
        ...


@runtime_checkable
class NamedSession(Protocol):
    """A session that gives each of an artefact's outputs by its name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names, the main output's first."""
        ...

    def output(self, name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Computes one of ``outputs``; like ``Session.run`` in all else."""
        ...


def no_features(path: Path) -> ModelError:
    """The error for an artefact without a second output."""
    return ModelError(f"'{path}' gives no features; convert the model again, with --features")


class Runtime(Protocol):
    """An engine that executes one format on one or several devices.

    It imports its engine inside these methods only, so that listing runtimes costs nothing.
    """

    @property
    def name(self) -> str:
        """The part of the target before the dash."""
        ...

    @property
    def format(self) -> Format:
        """The format that it reads."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """The parts of its targets after the dash."""
        ...

    def availability(self, device: str) -> Availability:
        """Whether the device can be used here. Never raises for one of ``devices``."""
        ...

    def open(self, path: Path, device: str, *, threads: int | None = None) -> Session:
        """Loads an artefact on exactly the device asked for.

        Args:
            path: The artefact.
            device: One of ``devices``.
            threads: CPU threads; None leaves the choice to the engine.

        Raises:
            UnavailableError: The engine or device is not here.
            PlacementError: The device cannot run all operators of the artefact.
            ModelError: The file is not an artefact that this engine can load.
        """
        ...


@cache
def runtimes() -> tuple[Runtime, ...]:
    """All runtimes, by name."""
    found: list[Runtime] = discover(__name__, __path__)
    return tuple(sorted(found, key=lambda runtime: runtime.name))


def targets() -> tuple[Target, ...]:
    """Every target that some runtime knows."""
    return tuple(
        Target(runtime.name, device) for runtime in runtimes() for device in runtime.devices
    )


def runtime_for(target: Target) -> Runtime:
    """The runtime of a target.

    Raises:
        UsageError: No runtime knows it.
    """
    for runtime in runtimes():
        if runtime.name == target.runtime and target.device in runtime.devices:
            return runtime
    known = [str(each) for each in targets()]
    raise UsageError(f"unknown target '{target}'; {nearest_of(str(target), known, 'known')}")


def fit_of(target: Target) -> Fit | None:
    """The fit of a target; None where its runtime does not know it.

    Raises:
        UsageError: No runtime knows the target.
    """
    runtime = runtime_for(target)
    return runtime.fit(target.device) if isinstance(runtime, SaysWhatFits) else None


def only_input(path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """The only one of an artefact's inputs.

    Raises:
        ModelError: There are others, or there is nothing to compute.
    """
    if len(inputs) != 1 or not outputs:
        raise ModelError(
            f"'{path}' has {len(inputs)} inputs and {len(outputs)} outputs; vitedge runs one image "
            "to logits"
        )
    return inputs[0]


_BYTES_PER_VALUE = 4  # float32, which most engines take


def run_batches(session: Session, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Runs pixels ``(N, H, W, C)`` in a session's static batches, the last one padded."""
    return in_batches(session.run, session.input_shape[0], pixels)


def in_batches(
    run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    size: int,
    pixels: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float32]:
    """Calls ``run`` on batches of exactly ``size``, and gives the rows of real images.

    Raises:
        SizeError: The artefact claims a batch that does not fit into memory.
    """
    if len(pixels):
        refuse_inflation(f"a batch of {size} images", size * pixels[0].size * _BYTES_PER_VALUE)
    parts = []
    for start in range(0, len(pixels), size):
        part = pixels[start : start + size]
        if len(part) < size:
            part = np.pad(part, [(0, size - len(part)), (0, 0), (0, 0), (0, 0)])
        parts.append(run(part)[: len(pixels) - start])
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
