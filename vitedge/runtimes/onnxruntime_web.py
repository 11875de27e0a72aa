"""ONNX Runtime in a browser, on the CPU through wasm or the GPU through WebGPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vitedge.browser.packages import ONNX_RUNTIME_WEB
from vitedge.runtimes import Availability
from vitedge.runtimes._in_browser import (
    DEVICES,
    GPU,
    WASM,
    BrowserSession,
    browser_availability,
    open_in_browser,
)
from vitedge.targets.fits import ALL_INTEGER, FLOATS, INT8_OR_FLOAT, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

_FITS: Mapping[str, Fit] = MappingProxyType(
    {
        WASM: Fit((*INT8_OR_FLOAT, *ALL_INTEGER, Precision.INT4)),
        GPU: Fit(FLOATS),
    }
)


@dataclass(frozen=True)
class OnnxRuntimeWeb:
    """The adapter to ``onnxruntime-web``."""

    name: str = "onnx"
    format: Format = Format.ONNX
    devices: tuple[str, ...] = DEVICES

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return _FITS.get(device)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        return browser_availability(ONNX_RUNTIME_WEB, device)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> BrowserSession:
        """See ``Runtime``."""
        return open_in_browser(ONNX_RUNTIME_WEB, path, Target(self.name, device), threads)


PLUGIN = OnnxRuntimeWeb()
