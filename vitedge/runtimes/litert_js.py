"""LiteRT.js: TFLite files in a browser, on the CPU through wasm or the GPU through WebGPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitedge.browser.packages import LITERT_JS
from vitedge.runtimes import Availability
from vitedge.runtimes._in_browser import (
    DEVICES,
    BrowserSession,
    browser_availability,
    open_in_browser,
)
from vitedge.targets.formats import Format
from vitedge.targets.target import Target


@dataclass(frozen=True)
class LiteRTJs:
    """The adapter to ``@litertjs/core``."""

    name: str = "tflite"
    format: Format = Format.TFLITE
    devices: tuple[str, ...] = DEVICES

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        return browser_availability(LITERT_JS, device)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> BrowserSession:
        """See ``Runtime``."""
        return open_in_browser(LITERT_JS, path, Target(self.name, device), threads)


PLUGIN = LiteRTJs()
