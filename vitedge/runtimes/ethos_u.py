"""Arm's Ethos-U microcontroller NPUs: compiled and estimated by Vela, computed by LiteRT.

The chips sit in microcontrollers, so nothing runs on one from here. Vela says which operators the
NPU takes, on all three generations, and how fast it would be; what an all-integer file computes is
fixed by TFLite's integer kernels, which the NPU follows, so LiteRT gives its logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, PlacementError, UnavailableError
from vitedge.files.tflite_verifier import demand_sound
from vitedge.runtimes import Availability, Placement, Readiness
from vitedge.runtimes._vela import Compiled, run_vela
from vitedge.runtimes.litert import PLUGIN as LITERT
from vitedge.runtimes.litert import LiteRTSession
from vitedge.targets.fits import DeviceLimits, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

_REMEDY = "Run: pip install 'vitedge[ethos-u]'"

# One chip of each generation, as their makers sell them: Corstone-300, i.MX 93, Alif Ensemble.
_CHIPS = ("u55-128", "u65-512", "u85-256")


@dataclass(frozen=True)
class EthosU:
    """The adapter to ``ethos-u-vela``."""

    name: str = "ethos"
    format: Format = Format.TFLITE
    devices: tuple[str, ...] = ("u",)

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return Fit((Precision.INT8_STATIC,), DeviceLimits.ALL_INTEGER)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        try:
            release = version("ethos-u-vela")
        except PackageNotFoundError:
            return Availability(Readiness.MISSING, "ethos-u-vela is not installed", _REMEDY)
        litert = LITERT.availability("cpu")
        if litert.readiness is Readiness.MISSING:
            return litert
        words = f"ethos-u-vela {release} compiles and estimates, {litert.detail} computes"
        return Availability(Readiness.EMULATED, words)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> EthosUSession:
        """See ``Runtime``."""
        self._demand(device)
        if not path.is_file():
            raise ModelError(f"there is no artefact '{path}'")
        demand_sound(path)
        compiled = tuple(_wholly(path, run_vela(path, chip)) for chip in _CHIPS)
        return EthosUSession(LiteRTSession(path, threads), compiled)

    def compiled_forms(self, device: str) -> tuple[str, ...]:
        """See ``AheadOfTime``."""
        return _CHIPS

    def compiler(self, device: str) -> Availability:
        """See ``AheadOfTime``."""
        return self.availability(device)

    def compile(self, path: Path, device: str, form: str, output: Path) -> None:
        """See ``AheadOfTime``."""
        self._demand(device)
        try:
            demand_sound(path)
            _wholly(path, run_vela(path, form, output))
        except PlacementError:
            output.unlink()
            raise

    def _demand(self, device: str) -> None:
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(f"ethos-{device} cannot run here: {state.detail}", state.remedy)


@dataclass(eq=False)
class EthosUSession:
    """A model that all generations take wholly, computed by LiteRT; see ``Session``.

    Attributes:
        computing: LiteRT's session.
        compiled: The file that Vela made for each chip.
    """

    computing: LiteRTSession
    compiled: tuple[Compiled, ...]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        return self.computing.input_shape

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        return self.computing.run(pixels)

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        return self.computing.features(pixels)

    def placement(self) -> Placement | None:
        """The placement on the first generation; ``open`` refused files that leave one."""
        first = self.compiled[0]
        return Placement(first.npu_operators, first.npu_operators + first.cpu_operators)

    def estimate(self) -> str:
        """See ``EstimatedSession``."""
        chips = ", ".join(
            f"{each.inference_ms:.3g} ms on Ethos-{each.chip}" for each in self.compiled
        )
        return f"Vela estimates {chips}; nothing was measured"

    def close(self) -> None:
        """See ``Session``."""
        self.computing.close()


def _wholly(path: Path, compiled: Compiled) -> Compiled:
    """Refuses what leaves operators to the CPU: a microcontroller's takes seconds for them."""
    if not compiled.cpu_operators:
        return compiled
    named = [f"{code} '{name}' ({reason})" for code, name, reason in reversed(compiled.refused)]
    more = f" and {len(named) - 2} more" if len(named) > 2 else ""
    total = compiled.cpu_operators + compiled.npu_operators
    raise PlacementError(
        f"{compiled.cpu_operators} of {total} operators of '{path}' cannot run on "
        f"Ethos-{compiled.chip}: {', '.join(named[:2]) or 'Vela does not say which'}{more}; "
        "it takes all-integer files only: convert with --int8-static"
    )


PLUGIN = EthosU()
