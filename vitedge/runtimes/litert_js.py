"""LiteRT.js: TFLite files in a browser, on the CPU through wasm or the GPU through WebGPU."""

from __future__ import annotations

from types import MappingProxyType

from vitedge.browser.packages import LITERT_JS
from vitedge.runtimes._in_browser import GPU, WASM, BrowserRuntime
from vitedge.targets.fits import FLOATS, FOR_HALF, INT8_OR_FLOAT, DeviceLimits, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

PLUGIN = BrowserRuntime(
    name="tflite",
    format=Format.TFLITE,
    engine=LITERT_JS,
    fits=MappingProxyType(
        {
            WASM: Fit((*INT8_OR_FLOAT, Precision.INT4)),
            GPU: Fit(FLOATS, DeviceLimits.TFLITE_DELEGATE, FOR_HALF),
        }
    ),
)
