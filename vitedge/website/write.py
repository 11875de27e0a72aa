"""A folder that any static host can serve: a page, an artefact, and what computes it.

Nothing in it asks another site for anything; npm fetches the engine when the folder is written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import (
    Metadata,
    files_of,
    format_of,
    read_logits_grid,
    read_metadata,
)
from vitedge.browser.packages import (
    LITERT_JS,
    ONNX_RUNTIME_WEB,
    PIXELS,
    WebEngine,
    engine_files,
    install,
    is_for_gpu_alone,
)
from vitedge.errors import ModelError, UsageError
from vitedge.files.staging import refuse_existing, staging
from vitedge.images.label_names import names_for_people
from vitedge.network.tasks import Task
from vitedge.targets.fits import FLOATS
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent

_PAGE = Path(__file__).with_name("page")
_ENGINES = {Format.TFLITE: LITERT_JS, Format.ONNX: ONNX_RUNTIME_WEB}
_DIGEST = b"%DIGEST%"


@dataclass(frozen=True)
class Site:
    """The files that were written.

    Attributes:
        folder: The folder of the site.
        files: Names inside it.
        megabytes: The size that a browser may have to fetch, in 10^6 bytes.
    """

    folder: Path
    files: tuple[str, ...]
    megabytes: float


def write_site(
    artifact: Path, folder: Path, *, force: bool = False, progress: Progress = silent
) -> Site:
    """Writes the site of an artefact.

    Args:
        artifact: A TFLite or ONNX file that vitedge wrote.
        folder: The folder of the site; made if it does not exist.
        force: Files of the same names may be overwritten.
        progress: Told what is being done.

    Raises:
        UsageError: Files are there already, or no browser runs artefacts of this format.
        ModelError: The artefact is missing, or says nothing of its preprocessing, or is one that
            browsers do not run.
        UnavailableError: The engine is not here, and npm does not bring it.
        VitedgeError: The disk refuses.
    """
    engine, metadata = _engine_of(artifact), _described(artifact)
    refuse_existing([folder / "index.html"], force=force)  # before anything is fetched
    progress(f"fetching {engine.name} {engine.version}", 0, 0)
    install(engine)
    gpu = _gpu(metadata)
    contents = {
        place: found
        for place, found in engine_files(engine).items()
        if gpu is not None or not is_for_gpu_alone(place)
    }
    for page in (*sorted(_PAGE.iterdir()), PIXELS):
        contents[page.name] = page
    contents[artifact.name] = artifact
    contents["model.json"] = _json(_facts(artifact, metadata, engine) | {"gpu": gpu})
    contents["site.webmanifest"] = _json(_manifest(metadata))
    worker = (_PAGE / "service-worker.js").read_bytes()
    digest = f"vitedge-{_digest(contents)[:16]}".encode()
    contents["service-worker.js"] = worker.replace(_DIGEST, digest)
    refuse_existing([folder / place for place in contents], force=force)
    progress(f"writing {folder}", 0, 0)
    return _written(folder, contents)


def _engine_of(artifact: Path) -> WebEngine:
    found = _ENGINES.get(format_of(artifact))
    if found is None:
        raise UsageError(f"no browser runs '{artifact}'; give a .tflite or an .onnx file")
    return found


def _described(artifact: Path) -> Metadata:
    metadata = read_metadata(artifact)
    if metadata is None:
        raise ModelError(
            f"'{artifact}' does not say how images are prepared; vitedge must write it"
        )
    if metadata.task is not Task.CLASSES:
        raise ModelError(f"'{artifact}' gives {metadata.task.words}, and the page shows classes")
    if metadata.precision.all_integer and metadata.format is Format.TFLITE:
        raise ModelError(
            f"'{artifact}' is {metadata.precision}, whose logits LiteRT.js does not read; convert "
            "with --int8"
        )
    if metadata.preprocessing.channels not in (1, 3):
        channels = metadata.preprocessing.channels
        raise ModelError(f"'{artifact}' takes {channels} channels, and cameras give three")
    if len(files_of(artifact)) > 1:
        raise ModelError(f"'{artifact}' has weights in a file of their own: too large for a page")
    return metadata


def _facts(artifact: Path, metadata: Metadata, engine: WebEngine) -> dict[str, Any]:
    """The facts that the page needs."""
    scale, zero_point = read_logits_grid(artifact)
    return {
        "name": Path(metadata.source.name).stem,
        "file": artifact.name,
        "words": f"{artifact.name}, {artifact.stat().st_size / 1e6:.1f} MB, {metadata.precision}",
        "engine": f"{engine.name} {engine.version}",
        "labels": list(names_for_people(metadata.labels)),
        "scores": str(metadata.scores),
        "scale": scale,
        "zeroPoint": zero_point,
        "preprocessing": metadata.preprocessing.to_dict(),
    }


def _gpu(metadata: Metadata) -> dict[str, Any] | None:
    """The way in which WebGPU has to compute, and how exactly; None where it is not offered.

    LiteRT.js computes on both with the same files. ONNX Runtime Web has files of its own for it,
    27 MB, which a browser fetches when somebody asks for the GPU.
    """
    precision = metadata.precision
    if precision not in FLOATS:
        return None
    return {"half": precision is not Precision.FP32, "leastDb": precision.row.tolerance.drift_db}


def _manifest(metadata: Metadata) -> dict[str, Any]:
    """The manifest that lets a phone keep the page as an app: https://www.w3.org/TR/appmanifest."""
    name = Path(metadata.source.name).stem
    return {
        "name": name,
        "short_name": name[:12],
        "start_url": "./",
        "display": "standalone",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode()


def _digest(contents: dict[str, bytes | Path]) -> str:
    """The digest of all contents: another one makes browsers fetch the site anew."""
    digest = hashlib.sha256()
    for place, content in sorted(contents.items()):
        digest.update(place.encode() + b"\0" + _bytes(content))
    return digest.hexdigest()


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _written(folder: Path, contents: dict[str, bytes | Path]) -> Site:
    with staging(folder) as staged:
        for place, content in contents.items():
            (staged / place).parent.mkdir(parents=True, exist_ok=True)
            (staged / place).write_bytes(_bytes(content))
        megabytes = sum((staged / place).stat().st_size for place in contents) / 1e6
        # The page comes last: it is what makes a site of the folder.
        for place in sorted(contents, key=lambda each: each == "index.html"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (staged / place).replace(folder / place)
    return Site(folder, tuple(contents), megabytes)
