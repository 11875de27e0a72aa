"""Reads, converts and compares every model of a folder, and keeps what came of it as JSON."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reference.zoo.family import EXPECTED_FILE, SOURCE_FILE, Source, first_line
from reference.zoo.images import preprocessing_of
from reference.zoo.stock import stock_artifacts
from reference.zoo.timing import latency_ratio, products_here
from vitedge.errors import VitedgeError
from vitedge.files.staging import write_whole
from vitedge.images.synthetic import synthetic_images
from vitedge.importers import ImportOptions, read_model
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.quantize.cores import forward_each
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

RESULT_FILE, _MADE = "result.json", "artefacts"
_PRECISIONS = (Precision.FP32, Precision.INT8)
_AS_THE_LIBRARY_DB = 70.0
"""float32 against float32 of another library reaches 100 dB and more, but 83 dB where ONNX Runtime
runs what torch exported of transformers' LeViT with these weights; a misreading has 50 at most."""


@dataclass
class InFormat:
    """What came of one format; None where there is nothing.

    Attributes:
        fp32_db: Of the float32 artefact against the library.
        int8_db: Of our int8 artefact, of what varies from image to image.
        stock_db: Of the format's stock quantizer, the better of two.
        stock: Which that is.
        ratio: Latency of our int8 over the stock one's, one thread; median of pairs.
        refused: Why there is no artefact.
    """

    fp32_db: float | None = None
    int8_db: float | None = None
    stock_db: float | None = None
    stock: str = ""
    ratio: float | None = None
    refused: str = ""


@dataclass
class Result:
    """What came of one family.

    Attributes:
        name: Of its folder.
        architecture: What its library calls it.
        parameters: How many weights it has.
        road: ``by name``, ``lifted``, ``generic`` or ``refused``.
        why: What was not read, and why.
        read_db: Of the network that was read against the library, in float32.
        formats: By format.
        products: The instructions that multiply integers on the machine; see ``products_here``.
    """

    name: str
    architecture: str
    parameters: int
    road: str = "refused"
    why: str = "the measuring process died"
    read_db: float | None = None
    formats: dict[str, InFormat] = field(default_factory=dict)
    products: str = ""

    def line(self) -> str:
        """The result on one line."""
        parts = [f"{self.name:38} {self.road:9} {shown_number(self.read_db, 0)} dB"]
        for name, each in self.formats.items():
            parts.append(
                f"{name} {shown_number(each.fp32_db, 0)} dB, int8 {shown_number(each.int8_db, 1)} "
                f"against {shown_number(each.stock_db, 1)}, x {shown_number(each.ratio, 2)}"
            )
        return "; ".join([*parts, self.why] if self.why else parts)


def shown_number(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def read_results(folder: Path) -> list[Result]:
    """All results of a folder, by name."""
    paths = sorted(folder.glob(f"*/{RESULT_FILE}"))
    return [result_of(json.loads(path.read_text("utf-8"))) for path in paths]


def result_of(values: dict[str, Any]) -> Result:
    """A result from its JSON."""
    formats = {key: InFormat(**each) for key, each in values["formats"].items()}
    return Result(**{**values, "formats": formats})


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        formats: Names of formats; none converts nothing, and what was only read is measured by a
            later call with some.
        calibration_images: How many synthetic images ranges are measured on, ours and stock's.
        latency: Time int8 beside the stock quantizer's.
        again: Measure what has a result, too.
    """

    formats: tuple[str, ...]
    calibration_images: int
    latency: bool
    again: bool

    @property
    def targets(self) -> list[Format]:
        """The formats."""
        return [Format(each) for each in self.formats]


def measure(folder: Path, words: Sequence[str], asked: Asked) -> None:
    """Measures what has no result yet, one line each.

    Args:
        folder: What ``make`` made.
        words: Families whose names hold one of them; none for all.
        asked: What of them.
    """
    logging.disable(logging.WARNING)  # of ONNX Runtime's quantizer, for every vector
    for source in sorted(folder.glob(f"*/{SOURCE_FILE}")):
        place = source.parent
        if words and not any(word in place.name for word in words):
            continue
        if not asked.again and _is_done(place / RESULT_FILE, only_read=not asked.formats):
            continue
        told = Source.read(place)
        result = _begun(place, told)
        started = time.perf_counter()
        try:
            _measure(place, told, result, asked)
        finally:
            shutil.rmtree(place / _MADE, ignore_errors=True)
        _write(place, result)
        print(f"{result.line()} ({time.perf_counter() - started:.0f} s)", flush=True)


def _begun(place: Path, told: Source) -> Result:
    """A result that says, while it is measured, that the process died, and what was read before."""
    result = Result(place.name, told.architecture, told.parameters)
    path = place / RESULT_FILE
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    shown = replace(result, **{key: before[key] for key in ("road", "read_db") if key in before})
    _write(place, shown)
    return result


def _is_done(path: Path, *, only_read: bool) -> bool:
    return path.exists() and (only_read or bool(json.loads(path.read_text("utf-8"))["formats"]))


def _write(place: Path, result: Result) -> None:
    write_whole(place / RESULT_FILE, json.dumps(asdict(result), indent=1) + "\n")


def _options(told: dict[str, Any]) -> ImportOptions:
    values = {key: tuple(each) if isinstance(each, list) else each for key, each in told.items()}
    if "task" in values:
        values["task"] = Task(values["task"])
    return ImportOptions(**values)


def _measure(place: Path, told: Source, result: Result, asked: Asked) -> None:
    with np.load(place / EXPECTED_FILE) as arrays:
        pixels, wanted = arrays["images"], arrays["outputs"]
    reasons: list[str] = []
    read = _read(place, told, pixels, wanted, result, reasons)
    if read is None:
        path, options = _traced(place, told)
        result.road, result.why = "generic", "; ".join(reasons)
    else:
        path, options, result.road = read
        result.why = "; ".join(reasons)
    if not asked.formats:
        return
    result.products = products_here()
    try:
        made = _converted(place, told, path, options, asked, result)
    except VitedgeError as error:
        result.road, result.why = "refused", first_line(error)
        return
    for target in asked.targets:
        if (target, Precision.FP32) in made:
            found = result.formats[target]
            found.fp32_db = _sqnr(wanted, _outputs(made[target, Precision.FP32], target, pixels))
    if read is not None:
        for target in asked.targets:
            if (target, Precision.INT8) in made:
                _compare(place, told, target, made, (pixels, wanted), result, asked)


def _traced(place: Path, told: Source) -> tuple[Path, ImportOptions]:
    assert told.traced is not None
    return place / told.traced, _options(told.told)


def _read(
    place: Path,
    told: Source,
    pixels: np.ndarray,
    wanted: np.ndarray,
    result: Result,
    reasons: list[str],
) -> tuple[Path, ImportOptions, str] | None:
    """The source that can be read, and how; its outputs are those of the library."""
    sources = [_traced(place, told)]
    if told.by_name is not None:
        sources.insert(0, (place / told.by_name, _options(told.options)))
    for path, options in sources:
        try:
            imported = read_model(path, options)
        except VitedgeError as error:
            reasons.append(_without_place(first_line(error), place))
            continue
        road = "by name" if imported.path.startswith("by name") else "lifted"
        found = _sqnr(wanted, forward_each(imported.network, pixels))
        if found >= _AS_THE_LIBRARY_DB:
            result.read_db = found
            return path, options, road
        reasons.append(f"{road}, it computes something else than its library: {found:.0f} dB")
    return None


def _without_place(words: str, place: Path) -> str:
    return words.replace(f"{place}/", "").replace(str(place), place.name)


def _converted(
    place: Path,
    told: Source,
    path: Path,
    options: ImportOptions,
    asked: Asked,
    result: Result,
) -> dict[tuple[Format, Precision], Path]:
    """Every artefact that could be made."""
    formats = asked.targets
    result.formats = {each: InFormat() for each in formats}

    def refused(artifact: Path, error: VitedgeError) -> None:
        target = next(each for each in formats if artifact.name.endswith(each.suffix))
        result.formats[target].refused = _without_place(first_line(error), place)

    wanted = ConvertOptions(
        tuple(formats), _PRECISIONS, place / _MADE, importing=options, force=True
    )
    images = synthetic_images(preprocessing_of(told.size), asked.calibration_images, seed=0)
    written = convert(path, wanted, calibration=images, on_refusal=refused)
    return {(each.metadata.format, each.metadata.precision): each.path for each in written}


def _compare(
    place: Path,
    told: Source,
    target: Format,
    made: dict[tuple[Format, Precision], Path],
    shown: tuple[np.ndarray, np.ndarray],
    result: Result,
    asked: Asked,
) -> None:
    """Our int8 beside that of the format's stock quantizer."""
    pixels, wanted = shown
    found, ours = result.formats[target], made[target, Precision.INT8]
    found.int8_db = _sqnr(wanted, _outputs(ours, target, pixels))
    path, options = _traced(place, told)
    fp32, folder = made.get((target, Precision.FP32)), place / _MADE / f"stock-{target}"
    best, count = None, asked.calibration_images
    try:
        for stock, words in stock_artifacts(path, options, target, fp32, folder, count):
            reached = _sqnr(wanted, _outputs(stock, target, pixels))
            if found.stock_db is None or reached > found.stock_db:
                best, found.stock_db, found.stock = stock, reached, words
    except Exception as error:  # a stock tool raises whatever its parts do
        found.stock = found.stock or f"none: {_without_place(first_line(error, 120), place)}"
    if asked.latency and best is not None:
        found.ratio = latency_ratio(_open(ours, target), _open(best, target), pixels[:1])


def _open(path: Path, target: Format) -> Any:
    return runtime_for(Target(str(target), "cpu")).open(path, "cpu", threads=1)


def _outputs(path: Path, target: Format, pixels: np.ndarray) -> np.ndarray:
    session = _open(path, target)
    try:
        return np.asarray(run_batches(session, pixels))
    finally:
        session.close()


def _sqnr(wanted: np.ndarray, found: np.ndarray) -> float:
    """Of what varies from image to image, in decibel; 200 where nothing differs."""
    if found.size != wanted.size:
        return float("-inf")
    wanted = wanted.astype(np.float64)
    noise = np.square(found.reshape(wanted.shape) - wanted).sum()
    signal = np.square(wanted - wanted.mean(0)).sum()
    return float(10 * np.log10(signal / noise)) if noise > signal * 1e-20 else 200.0
