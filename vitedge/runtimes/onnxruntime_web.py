"""ONNX Runtime in a browser, on the CPU through wasm or the GPU through WebGPU."""

from __future__ import annotations

from types import MappingProxyType

from vitedge.browser.packages import ONNX_RUNTIME_WEB
from vitedge.runtimes._in_browser import GPU, WASM, BrowserRuntime
from vitedge.targets.fits import ALL_INTEGER, FLOATS, INT8_OR_FLOAT, Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

PLUGIN = BrowserRuntime(
    name="onnx",
    format=Format.ONNX,
    engine=ONNX_RUNTIME_WEB,
    fits=MappingProxyType(
        {
            WASM: Fit((*INT8_OR_FLOAT, *ALL_INTEGER, Precision.INT4)),
            GPU: Fit(FLOATS),
        }
    ),
)
