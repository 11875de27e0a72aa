"""The engines for browsers, as npm brings them: packages, folders, files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitedge.errors import UnavailableError

FOLDER_VARIABLE = "VITEDGE_NPM"
"""The environment's variable that names the folder of npm's packages."""

PIXELS = Path(__file__).with_name("pixels.mjs")
"""How a page prepares pictures."""

_SECONDS_TO_INSTALL = 600.0


@dataclass(frozen=True)
class WebEngine:
    """The package that computes artefacts of one format in a browser.

    Attributes:
        name: The package's name, as its makers write it.
        package: npm's name of it.
        version: The version that was tried.
        adapter: The file of ``engines`` that drives it.
        files: The place of each of its files inside ``node_modules``, by the file's name beside the
            adapter.
    """

    name: str
    package: str
    version: str
    adapter: str
    files: Mapping[str, str]

    @property
    def pin(self) -> str:
        """The packages that npm is asked for."""
        return f"{self.package}@{self.version}"


_WASM = "@litertjs/core/wasm/litert_wasm"
LITERT_JS = WebEngine(
    "LiteRT.js",
    "@litertjs/core",
    "2.5.3",
    "litert.mjs",
    {
        "litert/index.js": "@litertjs/core/dist/index.js",
        "litert/wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
        # With relaxed SIMD, with threads as well, and without either for older browsers.
        **{
            f"litert/wasm/litert_wasm{kind}_internal.{suffix}": f"{_WASM}{kind}_internal.{suffix}"
            for kind in ("", "_threaded", "_compat")
            for suffix in ("js", "wasm")
        },
    },
)

_DIST = "onnxruntime-web/dist"
ONNX_RUNTIME_WEB = WebEngine(
    "ONNX Runtime Web",
    "onnxruntime-web",
    "1.30.0",
    "onnx.mjs",
    {
        "ort/ort.wasm.mjs": f"{_DIST}/ort.wasm.min.mjs",
        "ort/ort.webgpu.mjs": f"{_DIST}/ort.webgpu.min.mjs",
        **{
            f"ort/ort-wasm-simd-threaded{kind}.{suffix}": (
                f"{_DIST}/ort-wasm-simd-threaded{kind}.{suffix}"
            )
            for kind in ("", ".asyncify")
            for suffix in ("mjs", "wasm")
        },
    },
)

# Browsers do not look into node_modules.
_BARE, _BESIDE = b'"@litertjs/wasm-utils"', b'"./wasm-utils.js"'


def packages_folder() -> Path:
    """The folder of npm's packages, unless the environment names another one."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "vitedge" / "npm"


def install_command(engine: WebEngine) -> list[str]:
    """The options of npm; it runs nothing of the packages."""
    folder = str(packages_folder())
    quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
    return ["npm", "install", "--ignore-scripts", *quiet, "--prefix", folder, engine.pin]


def remedy(engine: WebEngine) -> str:
    """Says how to get an engine."""
    return f"Run: {shlex.join(install_command(engine))}"


def installed_version(engine: WebEngine) -> str | None:
    """The version that is installed; None when the package is not, or not whole."""
    modules = packages_folder() / "node_modules"
    if not all((modules / inside).is_file() for inside in engine.files.values()):
        return None
    try:
        described = json.loads((modules / engine.package / "package.json").read_text("utf-8"))
        return str(described["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def install(engine: WebEngine) -> None:
    """Lets npm fetch an engine, unless the wanted version is here.

    Raises:
        UnavailableError: npm is not here, or does not bring it.
    """
    if installed_version(engine) == engine.version:
        return
    if shutil.which("npm") is None:
        raise UnavailableError(
            f"{engine.name} is not here, and neither is npm, which brings it",
            f"Install Node.js with npm, or fetch {engine.pin} elsewhere and name the folder that "
            f"holds node_modules by {FOLDER_VARIABLE}",
        )
    packages_folder().mkdir(parents=True, exist_ok=True)
    try:
        ended = subprocess.run(
            install_command(engine),
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_TO_INSTALL,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"npm did not fetch {engine.pin} in time", remedy(engine)) from error
    if ended.returncode or installed_version(engine) != engine.version:
        said = [line for line in ended.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise UnavailableError(f"npm did not bring {engine.pin}: {said[0]}", remedy(engine))


def is_for_gpu_alone(place: str) -> bool:
    """Whether a file of ``engine_files`` is read by pages that compute on a GPU, and by no other.

    Args:
        place: The path of the file beside the page.
    """
    return place.startswith("ort/") and (".asyncify." in place or ".webgpu." in place)


def engine_files(engine: WebEngine) -> dict[str, bytes | Path]:
    """Everything that a page needs to compute, by its place beside the page.

    Raises:
        UnavailableError: The packages are not installed.
    """
    if installed_version(engine) is None:
        raise UnavailableError(f"{engine.name} is not here", remedy(engine))
    modules = packages_folder() / "node_modules"
    found: dict[str, bytes | Path] = {
        place: modules / inside for place, inside in engine.files.items()
    }
    if engine is LITERT_JS:
        index = modules / engine.files["litert/index.js"]
        found["litert/index.js"] = index.read_bytes().replace(_BARE, _BESIDE)
    found["engine.mjs"] = Path(__file__).with_name("engines") / engine.adapter
    return found
