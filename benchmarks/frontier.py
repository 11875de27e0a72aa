"""How much faster are int8 artefacts with fewer tokens, and what do they lose?

Run: ``python benchmarks/frontier.py --weights deit_tiny_patch16_224.safetensors --photos FOLDER``
(``pip install -e '.[all]'``). Artefacts are calibrated on FOLDER/calibration and measured on
FOLDER/validation. Each share of the work or schedule (``--tokens 0.7 4:64,8:48``) is timed against
the int8 artefact without merging, on one thread, in turns A B C A B C; the ratio is the median over
the rounds of processor seconds, which other work on the machine disturbs least. The points lost are
paired: of the same photos, with the interval that holds 95 % of such sets of photos. Artefacts stay
in ``--folder``, and a later run measures them again without making them.

``--repaired FILE`` measures a model that ``vitedge train --init MODEL --tokens SHARE`` wrote in the
same turns. ``--stock`` measures the faster stock int8 routes of each format in the same turns
(``pip install -e '.[benchmarks]'``), and gives each time over the fastest of them. ``--also
FOLDER`` counts the points lost on other photos, too. ``--devices`` converts for devices that cannot
sort, by a constant matrix, and says what their compilers make of it.

``--model vit-base`` measures the times of ViT-B/16's shapes; its weights are random, so what it
loses says nothing. Without weights it takes a miniature and synthetic images, which only shows that
everything runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from contenders import (
    MODELS,
    open_model,
    open_on_one_thread,
    photo_sets,
    processor_seconds,
    say,
)
from device_front import TARGETS, DeviceRow, device_rows

from vitedge.api.tokens import read_tokens
from vitedge.artifacts.metadata import read_metadata
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.runtimes import run_batches
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

# The faster stock int8 routes of each format; the others take several times as long (`peers.py`).
_STOCK = {
    Format.TFLITE: ("stock-quantizer-tflite", "stock-dynamic-tflite"),
    Format.ONNX: ("stock-dynamic-onnx", "stock-linear-onnx"),
    Format.OPENVINO: ("stock-nncf-openvino",),
}

# The share of the work that a constant matrix leaves on devices.
_USUAL_CONSTANT = 0.7

# Half the width of a normal distribution's middle 95 %.
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Lost:
    """Points of top-1 lost against int8 without merging, of the same photos; else of agreement.

    Attributes:
        points: The mean.
        interval: Half the width of its 95 % interval.
        n: The number of photos.
    """

    points: float
    interval: float
    n: int

    def __str__(self) -> str:
        return f"{self.points:+.1f} +-{self.interval:.1f} of {self.n}"


@dataclass(frozen=True)
class Point:
    """One artefact on the front.

    Attributes:
        format: Its format.
        tokens: The share of the work or schedule that was asked for; or the stock route.
        merged: The places where tokens are merged, in words.
        latency_ratio: Median over rounds of its processor seconds over those without merging.
        over_stock: The same over those of the fastest stock route; None without any.
        latency_ms: Median of its processor milliseconds.
        rounds: The number of rounds.
        top1: Percent of the first photos, or None without labels.
        lost: The loss on each set of photos; none of stock routes (`accuracy.py` has those).
    """

    format: Format
    tokens: str
    merged: str
    latency_ratio: float
    over_stock: float | None
    latency_ms: float
    rounds: int
    top1: float | None
    lost: tuple[Lost, ...]


def main() -> None:
    """Parses the command line, measures, and prints tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="DeiT-tiny's weights")
    parser.add_argument("--model", choices=list(MODELS), help="another model, of random weights")
    parser.add_argument("--photos", type=Path, help="folder with calibration/ and validation/")
    parser.add_argument("--also", type=Path, help="other labelled photos")
    parser.add_argument("--folder", type=Path, help="where artefacts stay")
    parser.add_argument("--tokens", nargs="*", default=["0.8", "0.7", "0.6"])
    parser.add_argument("--constant", nargs="*", default=[])
    parser.add_argument("--repaired", nargs="*", type=Path, default=[], help="of `train --tokens`")
    parser.add_argument("--format", choices=list(all_formats()), nargs="*", dest="formats")
    parser.add_argument("--stock", action="store_true", help="measure stock routes as well")
    parser.add_argument("--devices", nargs="*", choices=TARGETS, default=[])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = [_read(each, constant=False) for each in options.tokens]
    wanted += [_read(each, constant=True) for each in options.constant]
    formats = all_formats() if options.formats is None else map(Format, options.formats)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        name = options.model or ("miniature" if options.weights is None else "deit-tiny")
        network, source = open_model(name, folder, options.weights)
        calibration, photos = photo_sets(network.preprocessing, options.photos, made_up=8)
        sets = [photos, *([] if options.also is None else [open_images(options.also)])]
        points = []
        for target in formats:
            runs = {
                _words(each): _artefact(source, folder, target, each, calibration)
                for each in (None, *wanted)
            }
            runs |= {
                each.stem: _artefact(each, folder, target, None, calibration)
                for each in options.repaired
            }
            stock = _stock(network, calibration, folder, target) if options.stock else {}
            points += _measured(target, runs, stock, sets, options.rounds)
        device = device_rows(source, folder, calibration, _USUAL_CONSTANT, options.devices)
    if options.json:
        print(json.dumps([asdict(each) for each in (*points, *device)]))
    else:
        _print(points, device)


def _print(points: Sequence[Point], device: Sequence[DeviceRow]) -> None:
    if points:
        print("| format | tokens | time | over stock | ms | top-1 % | points lost | merged |")
        print("|---|---|--:|--:|--:|--:|---|---|")
    for each in points:
        top1 = "" if each.top1 is None else f"{each.top1:.1f}"
        stock = "" if each.over_stock is None else f"{each.over_stock:.3f}"
        lost = "; ".join(map(str, each.lost))
        print(
            f"| {each.format} | {each.tokens} | {each.latency_ratio:.3f} | {stock} "
            f"| {each.latency_ms:.2f} | {top1} | {lost} | {each.merged} |"
        )
    if device:
        print("\n| target | tokens | operators | work | Ethos-U85, ms | on the device | merged |")
        print("|---|---|--:|--:|--:|---|---|")
    for row in device:
        estimate = "" if row.estimate_ms is None else f"{row.estimate_ms:.2f}"
        print(
            f"| {row.target} | {row.tokens} | {row.operators} | {row.work:.2f} | {estimate} "
            f"| {row.placed} | {row.merged} |"
        )


def _read(text: str, *, constant: bool) -> TokenOptions:
    found = read_tokens(text, constant=constant, minutes=None)
    if not isinstance(found, TokenOptions):
        raise SystemExit(f"--tokens is a share or a schedule here, not {text}")
    return found


def _words(tokens: TokenOptions | None) -> str:
    if tokens is None:
        return "all"
    schedule = ",".join(f"{each.block + 1}:{each.tokens}" for each in tokens.schedule)
    return f"{schedule or f'{tokens.share:g}'}{' constant' if tokens.constant else ''}"


def _artefact(
    source: Path,
    folder: Path,
    target: Format,
    tokens: TokenOptions | None,
    calibration: ImageSet,
) -> Path:
    made = folder / _words(tokens).replace(" ", "-").replace(":", "-")
    path = made / f"{source.stem}.int8{target.suffix}"
    if not path.exists():
        say(f"making {path}")
        asked = ConvertOptions((target,), (Precision.INT8,), made, tokens=tokens)
        convert(source, asked, calibration=calibration)
    return path


def _stock(
    network: Network, calibration: ImageSet, folder: Path, target: Format
) -> dict[str, Path]:
    """The files of the stock int8 routes of a format, by name."""
    from stock_routes import ROUTES, Workbench

    made = folder / "stock"
    made.mkdir(exist_ok=True)
    pixels = [network.preprocessing(sample.image) for sample in calibration.samples]
    bench = Workbench(network, pixels, made, made / "ours.fp32.xml")
    found = {}
    for name in _STOCK[target]:
        say(f"making {name} ({ROUTES[name].words})")
        found[name] = bench.make(name)
    return found


def _measured(
    target: Format,
    runs: dict[str, Path],
    stock: dict[str, Path],
    sets: Sequence[ImageSet],
    rounds: int,
) -> list[Point]:
    """A point for each artefact, of which the first does all the work, and each stock route."""
    sessions = [open_on_one_thread(target, path) for path in (*runs.values(), *stock.values())]
    described = [read_metadata(path) for path in runs.values()]
    try:
        seconds = processor_seconds(sessions, rounds)
        ours, preprocessing = sessions[: len(runs)], described[0].preprocessing
        judged = [_judged(target, ours, preprocessing, each) for each in sets]
    finally:
        for session in sessions:
            session.close()
    fastest = min(seconds[len(runs) :], key=statistics.median, default=None)
    merged = [each.merging.words.split(";")[0] if each.merging else "" for each in described]
    return [
        Point(
            target,
            name,
            merged[at] if at < len(runs) else "",
            _ratio(seconds[0], seconds[at]),
            None if fastest is None else _ratio(fastest, seconds[at]),
            1e3 * statistics.median(seconds[at]),
            rounds,
            judged[0][at][0] if at < len(runs) else None,
            tuple(each[at][1] for each in judged if at < len(runs)),
        )
        for at, name in enumerate((*runs, *stock))
    ]


def _ratio(before: Sequence[float], now: Sequence[float]) -> float:
    return statistics.median(b / a for a, b in zip(before, now, strict=True))


def _judged(
    target: Format,
    sessions: Sequence,  # type: ignore[type-arg]
    preprocessing,  # noqa: ANN001
    photos: ImageSet,
) -> list[tuple[float | None, Lost]]:
    """Top-1 of each session, if there are labels, and its loss against the first."""
    say(f"running {len(photos.samples)} photos in {target}")
    pixels = [preprocessing.batch([sample.image]) for sample in photos.samples]
    found = [np.concatenate([_classes(each, part) for part in pixels]) for each in sessions]
    labels = [sample.label for sample in photos.samples]
    truth = found[0] if any(label is None for label in labels) else np.asarray(labels)
    right = [(each == truth).astype(float) for each in found]
    judged = []
    for each in right:
        apart = right[0] - each
        half = float(100 * _NORMAL_95 * apart.std() / len(apart) ** 0.5)
        lost = Lost(float(100 * apart.mean()), half, len(apart))
        judged.append((None if truth is found[0] else float(100 * each.mean()), lost))
    return judged


def _classes(session, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:  # noqa: ANN001
    return run_batches(session, pixels).argmax(axis=1)


if __name__ == "__main__":
    main()
