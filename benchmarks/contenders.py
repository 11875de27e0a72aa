"""Who competes in ``peers.py``: our artefacts, the stock routes', and one matrix product."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gemm_rate import OPERATIONS, write_gemm
from stock_routes import ROUTES, Workbench

from vitedge.artifacts.metadata import files_of
from vitedge.elements.presets import initialize, preset
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.images.synthetic import synthetic_images
from vitedge.importers import read_model
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.runtimes import Session, runtime_for
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

MODELS = {
    "deit-tiny": lambda: preset("deit-tiny", classes=1000),
    "vit-base": lambda: preset("base", classes=1000),
    # As wide as DeiT-tiny, and short: to count instructions by.
    "two-blocks": lambda: preset("deit-tiny", classes=1000, depth=2),
    # For a look at whether everything runs; judged like DeiT-tiny.
    "miniature": lambda: preset(
        "tiny", classes=10, image_size=32, patch_size=8, dim=32, heads=2, depth=2
    ),
}

RUNTIMES = {Format.TFLITE: "tflite", Format.ONNX: "onnx", Format.OPENVINO: "openvino"}

# Rounds whose times do not count.
_WARM_UP = 3


@dataclass(frozen=True)
class Contender:
    """One artefact.

    Attributes:
        name: What the table calls it.
        words: How it was made.
        format: Its format.
        precision: What it computes in.
        path: The file.
        operations: Multiplications and additions of one run.
    """

    name: str
    words: str
    format: Format
    precision: Precision
    path: Path
    operations: int


def contenders(
    folder: Path,
    formats: Sequence[Format],
    without: Sequence[str],
    network: Network,
    source: Path,
    photos: ImageSet,
) -> list[Contender]:
    """All that compete, made now or by an earlier run.

    Args:
        folder: Where the artefacts go.
        formats: Formats that are compared.
        without: Names of stock routes to leave out.
        network: The model.
        source: A file that holds it.
        photos: To calibrate on.
    """
    name = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    ours = _ours(source, photos, folder)
    pixels = [network.preprocessing(sample.image) for sample in photos.samples]
    bench = Workbench(network, pixels, folder, folder / "ours.fp32.xml")
    operations = 2 * network.macs
    found = [
        Contender(f"ours-{precision}-{RUNTIMES[target]}", "", target, precision, path, operations)
        for (target, precision), path in ours.items()
        if target in formats
    ]
    for route_name, route in ROUTES.items():
        if route.format not in formats or route_name in without:
            continue
        say(f"{name}: {route_name} ({route.words})")
        path = bench.make(route_name)
        found.append(
            Contender(route_name, route.words, route.format, route.precision, path, operations)
        )
    return found + list(_products(folder, formats))


def _products(folder: Path, formats: Sequence[Format]) -> Iterator[Contender]:
    """The large matrix products, one for each format and precision."""
    for target in formats:
        for precision in (Precision.FP32, Precision.INT8):
            path = write_gemm(target, precision, folder)
            name = f"gemm-{precision}-{RUNTIMES[target]}"
            yield Contender(name, "one matrix product", target, precision, path, OPERATIONS)


def _ours(source: Path, photos: ImageSet, folder: Path) -> dict[tuple[Format, Precision], Path]:
    """Our artefacts, made all at once so that images are calibrated on once."""
    precisions = (Precision.FP32, Precision.INT8)
    ours = {
        (target, precision): folder / f"ours.{precision}{target.suffix}"
        for target in all_formats()
        for precision in precisions
    }
    if all(path.exists() for path in ours.values()):
        return ours
    say(f"{folder.name}: ours")
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        options = ConvertOptions(all_formats(), precisions, Path(staging))
        for written in convert(source, options, calibration=photos):
            made = ours[written.metadata.format, written.metadata.precision]
            for part in files_of(written.path):
                part.rename(made.with_suffix(part.suffix))
    return ours


def open_model(name: str, folder: Path, weights: Path | None) -> tuple[Network, Path]:
    """The ViT, and a file that holds it: DeiT-tiny's ``weights``, or one of random weights."""
    if name == "deit-tiny" and weights is not None:
        return read_model(weights).network, weights
    from vitedge.in_keras.model import to_keras

    config = MODELS[name]()
    side = config.image_size[0]
    network = initialize(config, Preprocessing((side, side), resize=side * 248 // 224))
    path = folder / f"{name}.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        to_keras(network).save(path)
    return network, path


def photo_sets(
    preprocessing: Preprocessing, folder: Path | None, *, made_up: int
) -> tuple[ImageSet, ImageSet]:
    """Images to calibrate and to measure on: a folder's two parts, or so many synthetic ones."""
    if folder is not None:
        return open_images(folder / "calibration"), open_images(folder / "validation")
    first, second = (synthetic_images(preprocessing, made_up, seed=seed) for seed in (0, 1))
    return first, second


def open_on_one_thread(target: Format, path: Path) -> Session:
    """An artefact in its format's runtime on the processor."""
    name = Target(RUNTIMES[target], "cpu")
    return runtime_for(name).open(path, "cpu", threads=1)


def processor_seconds(sessions: Sequence[Session], rounds: int) -> list[list[float]]:
    """Processor seconds of each session, round by round, in turns A B C A B C."""
    shape = sessions[0].input_shape
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found: list[list[float]] = [[] for _ in sessions]
    for number in range(_WARM_UP + rounds):
        for times, session in zip(found, sessions, strict=True):
            start = time.process_time()
            session.run(pixels)
            if number >= _WARM_UP:
                times.append(time.process_time() - start)
    return found


def say(words: str) -> None:
    """Tells whoever waits; stdout is for results."""
    print(words, file=sys.stderr, flush=True)
