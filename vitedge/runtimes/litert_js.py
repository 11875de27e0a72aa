"""LiteRT.js: TFLite files in a browser, on the CPU through wasm or the GPU through WebGPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vitedge.browser.packages import LITERT_JS
from vitedge.runtimes import Availability
from vitedge.runtimes._in_browser import (
    DEVICES,
    GPU,
    WASM,
    BrowserSession,
    browser_availability,
    open_in_browser,
)
from vitedge.targets.fits import FLOATS, FOR_HALF, INT8_OR_FLOAT, DeviceLimits, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

_FITS: Mapping[str, Fit] = MappingProxyType(
    {
        WASM: Fit((*INT8_OR_FLOAT, Precision.INT4)),
        GPU: Fit(FLOATS, DeviceLimits.TFLITE_DELEGATE, FOR_HALF),
    }
)


@dataclass(frozen=True)
class LiteRTJs:
    """The adapter to ``@litertjs/core``."""

    name: str = "tflite"
    format: Format = Format.TFLITE
    devices: tuple[str, ...] = DEVICES

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return _FITS.get(device)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        return browser_availability(LITERT_JS, device)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> BrowserSession:
        """See ``Runtime``."""
        return open_in_browser(LITERT_JS, path, Target(self.name, device), threads)


PLUGIN = LiteRTJs()
