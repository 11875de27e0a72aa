"""Artefacts in a page of Chromium: what LiteRT.js and ONNX Runtime Web have in common.

A page of its own computes each artefact, and takes the time itself: what carries pixels to it and
logits back is left out.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output
from vitedge.artifacts.metadata import files_of, read_logits_grid, read_metadata
from vitedge.browser.chromium import EXECUTABLE_VARIABLE, Chromium, PageError, find_chromium
from vitedge.browser.packages import (
    LITERT_JS,
    PIXELS,
    WebEngine,
    engine_files,
    installed_version,
    remedy,
)
from vitedge.browser.server import FileServer
from vitedge.errors import (
    ModelError,
    PlacementError,
    UnavailableError,
    VitedgeError,
    first_line,
)
from vitedge.files.temporary import temporary_folder
from vitedge.images.preprocess import Preprocessing
from vitedge.machine.memory import peak_rss_mb
from vitedge.runtimes import Availability, Placement, Readiness, no_features
from vitedge.targets.fits import Fit
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

WASM, GPU = "web", "web-gpu"
DEVICES = (WASM, GPU)

_PAGE = b'<!doctype html><meta charset="utf-8"><script type="module" src="measure.mjs"></script>'
_MEASURE = Path(__file__).parents[1] / "browser" / "engines" / "measure.mjs"
_MEASURING: dict[str, bytes | Path] = {
    "index.html": _PAGE,
    "measure.mjs": _MEASURE,
    "pixels.mjs": PIXELS,
}

# Chromium on Linux offers WebGPU only when told to; without a GPU, Chromium's own software is one.
_HARDWARE = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
_SOFTWARE = (*_HARDWARE, "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader")

# As LiteRT.js's adapter and ONNX Runtime say it.
_OFF_THE_GPU = re.compile(
    r"left operators of it off the GPU|fallback to CPU EP has been explicitly|"
    r"\d+ nodes are left off the GPU: [\w, ]*"
)


@dataclass(frozen=True)
class BrowserRuntime:
    """The adapter to an engine in a page; see ``Runtime``.

    Attributes:
        name: The beginning of its targets' names, before the device.
        format: The format of the artefacts that it runs.
        engine: The engine that runs them.
        fits: The fit of each device.
        devices: Names of the devices.
    """

    name: str
    format: Format
    engine: WebEngine
    fits: Mapping[str, Fit]
    devices: tuple[str, ...] = DEVICES

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return self.fits.get(device)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        return browser_availability(self.engine, device)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> BrowserSession:
        """See ``Runtime``."""
        return open_in_browser(self.engine, path, Target(self.name, device), threads)


def browser_availability(engine: WebEngine, device: str) -> Availability:
    """Whether a browser and the engine are here, and for the GPU, which one it is."""
    executable = find_chromium()
    if sys.platform == "win32":
        detail = "Chromium is driven through pipes that Windows lacks"
        return Availability(Readiness.MISSING, detail, "Measure on Linux or macOS")
    if executable is None:
        named = os.environ.get(EXECUTABLE_VARIABLE)
        detail = f"there is no '{named}'" if named else "there is no Chromium or Chrome"
        advice = f"Install it (Debian: apt install chromium), or name it by {EXECUTABLE_VARIABLE}"
        return Availability(Readiness.MISSING, detail, advice)
    release = installed_version(engine)
    if release is None:
        return Availability(Readiness.MISSING, f"{engine.name} is not installed", remedy(engine))
    found = f"{engine.name} {release} in {Path(executable).name}"
    return Availability(Readiness.READY, found) if device == WASM else _gpu_availability(found)


def _gpu_availability(found: str) -> Availability:
    try:
        adapter, _ = _adapter()
    except VitedgeError as error:
        return Availability(Readiness.MISSING, f"{found}: {error}", "Try another Chromium")
    if adapter is None:
        detail = f"{found} has no WebGPU"
        return Availability(Readiness.MISSING, detail, "Use Chromium 113 or later with a GPU")
    words = " ".join(filter(None, (adapter["vendor"], adapter["architecture"])))
    name = adapter["description"] or adapter["device"] or words or "a GPU that hides its name"
    if _is_software(adapter):
        return Availability(Readiness.EMULATED, f"{found} on {name}, which is software")
    return Availability(Readiness.READY, f"{found} on {name}")


def _is_software(adapter: dict[str, Any]) -> bool:
    said = " ".join(str(value) for value in adapter.values()).lower()
    return bool(adapter["isFallback"]) or "swiftshader" in said or "llvmpipe" in said


def _adapter() -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """WebGPU's name for its GPU, and the flags that bring it: hardware, or else software."""
    for flags in (_HARDWARE, _SOFTWARE):
        with ExitStack() as held:
            chromium = _start(held, flags, dict(_MEASURING))
            found = chromium.run("globalThis.vitedge.adapter()")
        if found is not None:
            return found, flags
    return None, ()


def _start(held: ExitStack, flags: tuple[str, ...], files: dict[str, bytes | Path]) -> Chromium:
    """A browser that shows the page of a measurement.

    Raises:
        VitedgeError: The browser does not start.
    """
    # The adapter is asked of a page without an engine.
    files.setdefault("engine.mjs", b"export const open = null;")
    server = held.enter_context(FileServer(files))
    profile = held.enter_context(temporary_folder("vitedge-chromium-"))
    chromium = held.enter_context(Chromium(profile, flags=flags))
    chromium.open_address(server.address)
    if chromium.run("document.title") != "ready":
        raise PageError(" ".join(chromium.said) or "the page's scripts did not run")
    return chromium


def open_in_browser(
    engine: WebEngine, path: Path, target: Target, threads: int | None
) -> BrowserSession:
    """Loads an artefact in a page.

    Raises:
        UnavailableError: The browser, the engine or the GPU is not here.
        ModelError: The engine cannot load it.
    """
    state = browser_availability(engine, target.device)
    if state.readiness is Readiness.MISSING:
        raise UnavailableError(f"{target} cannot run here: {state.detail}", state.remedy)
    metadata = read_metadata(path)
    if len(files_of(path)) > 1:
        raise ModelError(f"'{path}' has weights in a file of their own: too large for a browser")
    files = _MEASURING | engine_files(engine) | {"artefact": path}
    options = {
        "accelerator": "wasm" if target.device == WASM else "webgpu",
        "threads": threads or os.cpu_count() or 1,
        "halfPrecision": metadata is not None and metadata.precision is not Precision.FP32,
    }
    with ExitStack() as held:
        flags = _adapter()[1] if target.device == GPU else ()
        chromium = _start(held, flags, files)
        try:
            facts = chromium.run(f"globalThis.vitedge.open({json.dumps(options)})")
        except PageError as error:
            raise _refusal(engine, path, chromium, error) from error
        shape = facts["shape"]
        if facts["inputs"] != 1 or len(shape) != 4:
            raise ModelError(f"'{path}' takes {shape}; vitedge runs one (N, H, W, C) input")
        grid = read_logits_grid(path)
        return BrowserSession(held.pop_all(), chromium, files, engine, path, facts, grid)


def _refusal(engine: WebEngine, path: Path, chromium: Chromium, error: Exception) -> ModelError:
    """The error of the engine, and its words on the console before."""
    words = first_line(error)
    if found := _OFF_THE_GPU.search(words):
        _, colon, names = found[0].partition(": ")
        which = f"{colon}{names}" if names else ""
        return PlacementError(f"{engine.name} leaves nodes of '{path}' off the GPU{which}")
    told = [line for line in chromium.said if "rror" in line and line not in words]
    reason = f"{words}; it said: {told[-1][:300]}" if told else words
    return ModelError(f"{engine.name} cannot run '{path}': {reason}")


class BrowserSession:
    """A model in a page; see ``Session``, ``FeatureSession``, ``PreparingSession``."""

    def __init__(
        self,
        held: ExitStack,
        chromium: Chromium,
        files: dict[str, bytes | Path],
        engine: WebEngine,
        path: Path,
        facts: dict[str, Any],
        grid: tuple[float, int],
    ) -> None:
        self._held, self._chromium, self._files = held, chromium, files
        self._engine, self._path, self._facts = engine, path, facts
        self._scale, self._zero_point = grid
        self._seconds = float(facts["ms"]) / 1000.0

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = self._facts["shape"]
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        found = self._outputs(pixels)[0]
        if self._engine is LITERT_JS and not np.issubdtype(found.dtype, np.floating):
            raise ModelError(
                f"LiteRT.js does not tell what the {found.dtype} scores of '{self._path}' mean; "
                "convert with --int8"
            )
        if self._facts["isChannelsFirst"] and found.ndim == 4:  # a map of classes
            found = found.transpose(0, 2, 3, 1)
        return dequantize_output(found, self._scale, self._zero_point)

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        outputs = self._outputs(pixels)
        if len(outputs) < 2:
            raise no_features(self._path)
        return np.asarray(outputs[1], np.float32)

    def _outputs(self, pixels: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        is_float = pixels.dtype != np.uint8
        kind = np.float32 if is_float else np.uint8
        self._files["pixels"] = np.ascontiguousarray(pixels, kind).tobytes()
        try:
            found = self._chromium.run(f"globalThis.vitedge.run(0, {json.dumps(is_float)})")
        except PageError as error:
            raise _refusal(self._engine, self._path, self._chromium, error) from error
        self._seconds += float(found["ms"]) / 1000.0
        return [_array(each) for each in found["outputs"]]

    def placement(self) -> Placement | None:
        """See ``Session``: a GPU takes the whole graph or is refused.

        ONNX Runtime is asked for the count in a session more; LiteRT.js has none to tell.
        """
        try:
            found = self._chromium.run("globalThis.vitedge.placement()")
        except PageError:
            return None
        return None if found is None else Placement(*(int(each) for each in found))

    def prepare(self, image: bytes, preprocessing: Preprocessing) -> npt.NDArray[np.uint8] | None:
        """See ``PreparingSession``: a canvas decodes, and the page's own code does the rest."""
        if preprocessing.channels not in (1, 3):
            return None
        self._files["picture"] = image
        how = json.dumps(preprocessing.to_dict())
        try:
            found = self._chromium.run(f"globalThis.vitedge.prepare(0, {how})")
        except PageError:
            return None  # Pillow reads formats that browsers do not
        shape = (*preprocessing.size, preprocessing.channels)
        return np.frombuffer(base64.b64decode(found), np.uint8).reshape(shape)

    def clock(self) -> float:
        """See ``OutOfProcessSession``."""
        return self._seconds

    def peak_rss_mb(self) -> float | None:
        """See ``OutOfProcessSession``: that of the process that computes the page."""
        described = self._chromium.ask("SystemInfo.getProcessInfo", of_browser=True)
        renderers = [each["id"] for each in described["processInfo"] if each["type"] == "renderer"]
        peaks = [peak for pid in renderers if (peak := peak_rss_mb(pid)) is not None]
        return max(peaks, default=None)

    def close(self) -> None:
        """See ``Session``."""
        self._held.close()


_KINDS = {
    "Float32Array": np.float32,
    "Uint8Array": np.uint8,
    "Int8Array": np.int8,
    "Uint16Array": np.uint16,
    "Int16Array": np.int16,
    "Int32Array": np.int32,
}


def _array(output: dict[str, Any]) -> npt.NDArray[Any]:
    kind = _KINDS.get(str(output["kind"]))
    if kind is None:
        raise ModelError(f"the page gives logits as {output['kind']}")
    # A copy, which whoever asked may write to.
    return np.frombuffer(base64.b64decode(output["data"]), kind).reshape(output["shape"]).copy()
