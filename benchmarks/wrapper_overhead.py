"""What the wrapper costs beside the bare runtime, and preprocessing beside inference.

Run: ``python benchmarks/wrapper_overhead.py ARTIFACT... --photos FOLDER [--threads 1] [--json]``.
Everything is timed in turns, image by image, so that ratios hold on a machine whose speed drifts:
in one turn the wrapper twice between two runs of the bare runtime, in the next the other way round.
A ratio is the median over all turns of processor seconds within one, with its 95 % interval. With
several threads they add up, so measure with one.

* overhead: ``classify`` of pixels that need no resizing (checks, copies, lock, float32 conversion,
  softmax, ranking), over the engine's own calls on a float32 array that lies ready. Both use one
  engine: of two that hold the same file, one can be a tenth slower, by where its memory lies.
* own: the same call with an engine that answers at once, over the bare runtime's time: what the
  wrapper itself does, without the noise of two long times subtracted.
* preprocessing: resize and crop of decoded photos, and the same with decoding the file, over the
  inference of the same artefact.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vitedge
from vitedge.machine.environment import read_environment
from vitedge.targets.formats import Format

Run = Callable[[np.ndarray], Any]

WARM_UP_RUNS = 20


@dataclass(frozen=True)
class Result:
    """One artefact's ratios in percent, each with its interval, and what they are made of."""

    artifact: str
    n: int
    threads: int
    bare_ms: float
    own_percent: float
    overhead_percent: tuple[float, float, float]
    pixels_percent: tuple[float, float, float]
    file_percent: tuple[float, float, float]


class Instant:
    """A session that converts its input, as every session must, and answers at once."""

    def __init__(self, shape: tuple[int, int, int, int], logits: np.ndarray) -> None:
        self.input_shape, self._logits = shape, logits

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """See ``Session``."""
        np.ascontiguousarray(pixels, np.float32)
        return self._logits.copy()

    def placement(self) -> None:
        """See ``Session``."""

    def close(self) -> None:
        """See ``Session``."""


def bare_runtime(model: vitedge.Classifier) -> Run:
    """The calls of the engine inside, as a program without a wrapper would write them."""
    session: Any = model._session
    match model.info.format:
        case Format.TFLITE:
            interpreter = session._interpreter
            taken = interpreter.get_input_details()[0]["index"]
            given = interpreter.get_output_details()[0]["index"]

            def run_tflite(pixels: np.ndarray) -> Any:
                interpreter.set_tensor(taken, pixels)
                interpreter.invoke()
                return interpreter.get_tensor(given)

            return run_tflite
        case Format.ONNX:
            inside = session._session
            return lambda pixels: inside.run(["logits"], {"pixels": pixels})
        case Format.OPENVINO:
            request = session._request
            return lambda pixels: request.infer([pixels])[0]


def measure(path: Path, photos: list[Path], threads: int, rounds: int) -> Result:
    """Times one artefact on each photo in turn, so many times."""
    with vitedge.load(path, threads=threads) as model:
        unresized = replace(model.preprocessing, resize=None)
    with vitedge.load(path, threads=threads, preprocessing=unresized) as wrapped:
        bare = bare_runtime(wrapped)
        decoded = [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]
        for _ in range(WARM_UP_RUNS):
            bare(model.preprocessing(decoded[0])[None].astype(np.float32))
            wrapped.classify(model.preprocessing(decoded[0]))
        turns = []
        for number, photo in enumerate(photos * rounds):
            picture = decoded[number % len(photos)]
            pixels = model.preprocessing(picture)
            ready = pixels[None].astype(np.float32)
            runs = {
                "bare": lambda ready=ready: bare(ready),
                "wrapped": lambda pixels=pixels: wrapped.classify(pixels),
            }
            # A speed that drifts while one turn lasts, and warmer caches, cancel out.
            outer, inner = list(runs)[:: 1 - 2 * (number % 2)]
            turn = dict.fromkeys(runs, 0.0)
            for name in (outer, inner, inner, outer):
                turn[name] += seconds(runs[name]) / 2
            turn["pixels"] = seconds(lambda picture=picture: model.preprocessing(picture))
            turn["file"] = seconds(lambda photo=photo: model.preprocessing(photo))
            turns.append(turn)
        logits = wrapped.logits([pixels])
        instant = vitedge.Classifier(
            Instant(wrapped.info.input_shape, logits), unresized, wrapped.labels, wrapped.target
        )
        own = statistics.median(seconds(lambda: instant.classify(pixels)) for _ in turns)
    return Result(
        artifact=path.name,
        n=len(turns),
        threads=threads,
        bare_ms=1000 * statistics.median(turn["bare"] for turn in turns),
        own_percent=100 * own / statistics.median(turn["bare"] for turn in turns),
        overhead_percent=median_interval([turn["wrapped"] / turn["bare"] - 1 for turn in turns]),
        pixels_percent=median_interval([turn["pixels"] / turn["bare"] for turn in turns]),
        file_percent=median_interval([turn["file"] / turn["bare"] for turn in turns]),
    )


def seconds(run: Callable[[], Any]) -> float:
    """Processor seconds of one call; with one thread that is its time on a quiet machine."""
    start = time.process_time()
    run()
    return time.process_time() - start


def median_interval(ratios: list[float]) -> tuple[float, float, float]:
    """Lower end, median and upper end of its 95 % interval, in percent.

    By order statistics, so whatever the distribution (David and Nagaraja, Order Statistics, 7.1).
    """
    ordered, n = sorted(ratios), len(ratios)
    away = min(round(0.98 * math.sqrt(n)), (n - 1) // 2)
    low, high = ordered[n // 2 - away], ordered[min(n // 2 + away, n - 1)]
    return 100 * low, 100 * statistics.median(ordered), 100 * high


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=100, help="photos to use")
    parser.add_argument("--rounds", type=int, default=3, help="turns with each photo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
    environment = read_environment(arguments.threads)
    results = [
        measure(path, photos, arguments.threads, arguments.rounds) for path in arguments.artifacts
    ]
    if arguments.json:
        found = {"environment": asdict(environment), "results": [asdict(each) for each in results]}
        print(json.dumps(found, indent=1))
        return
    print(
        f"{environment.cpu}, {arguments.threads} threads, n = {results[0].n} turns, "
        f"{WARM_UP_RUNS} warm-up runs; median percent of the bare runtime's time (95 % interval)"
    )
    headings = "".join(f"{name:>21}" for name in ("overhead", "resize, crop", "+ decode"))
    print(f"{'artefact':40} {'bare ms':>7} {'own':>5}{headings}")
    for each in results:
        cells = [
            f"{middle:.1f} ({low:.1f} to {high:.1f})"
            for low, middle, high in (each.overhead_percent, each.pixels_percent, each.file_percent)
        ]
        print(
            f"{each.artifact:40} {each.bare_ms:7.1f} {each.own_percent:5.1f} "
            + " ".join(f"{cell:>20}" for cell in cells)
        )


if __name__ == "__main__":
    main()
