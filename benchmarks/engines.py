"""How fast and how faithful are other engines beside ours, with the same weights?

Run: ``make engines``, which brings the engines in an environment of their own, or
``python benchmarks/engines.py --weights deit_tiny_patch16_224.safetensors --photos FOLDER``.
ExecuTorch (XNNPACK; float32, dynamic and static int8), MNN (float32; 8-bit weights with dynamic
quantization), ncnn and tract (float32) run one thread each, in turns with ours: A B C A B C. The
ratio is the median over the rounds of processor seconds over those of our float32 TFLite file. An
engine that is not installed, or does not take the model, is named with the reason.

The others start from normalised float32 planes, ours from the pixels, which is a little more work.
Without weights it takes a miniature and synthetic images, which only shows that everything runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from contenders import MODELS, open_model, photo_sets, say
from engine_graph import planes, write_graph
from other_engines import CALIBRATION, ENGINES

from vitedge.images.image_sets import ImageSet
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

_WARM_UP = 3

# Others are compared with this one.
_BASELINE = "ours, tflite fp32"


@dataclass(frozen=True)
class Row:
    """One engine in one precision.

    Attributes:
        name: Both.
        ratio: Median over rounds of its processor seconds over those of our float32 TFLite file.
        latency_ms: Median of its processor milliseconds.
        agreement: Percent of photos on which it names the class that our float32 file names.
        top1: Percent of photos that it names right, or None without labels.
        n: Photos.
    """

    name: str
    ratio: float
    latency_ms: float
    agreement: float
    top1: float | None
    n: int


def main() -> None:
    """Parses the command line, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="model to convert")
    parser.add_argument("--model", choices=list(MODELS), help="another model, of random weights")
    parser.add_argument("--photos", type=Path, help="folder with calibration/ and validation/")
    parser.add_argument("--folder", type=Path, help="where files stay, and are taken from again")
    parser.add_argument("--limit", type=int, default=500, help="photos to run")
    parser.add_argument("--rounds", type=int, default=30)
    # Not to stdout, where MNN prints what it likes.
    parser.add_argument("--json", type=Path, help="file to write the rows to as JSON")
    options = parser.parse_args()
    # Once TensorFlow is loaded, which makes a model of random weights, torch's libraries crash.
    with suppress(ImportError):
        import executorch.runtime  # noqa: F401
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        name = options.model or ("miniature" if options.weights is None else "deit-tiny")
        network, source = open_model(name, folder, options.weights)
        calibration, photos = photo_sets(network.preprocessing, options.photos, made_up=8)
        runs = {**_ours(source, folder, calibration), **_others(network, folder, calibration)}
        rows = _measured(runs, network, photos, options.limit, options.rounds)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in rows]))
    print("| engine | ratio | ms | agree % | top-1 % |")
    print("|---|--:|--:|--:|--:|")
    for each in rows:
        top1 = "" if each.top1 is None else f"{each.top1:.1f}"
        print(
            f"| {each.name} | {each.ratio:.2f} | {each.latency_ms:.1f} | {each.agreement:.1f} "
            f"| {top1} |"
        )


@dataclass(frozen=True)
class _Engine:
    """What runs, and what it takes: preparing that is not timed."""

    prepare: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]
    run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


def _ours(source: Path, folder: Path, calibration: ImageSet) -> dict[str, _Engine]:
    """Our artefacts in every format, float32 and int8."""
    runs = {}
    for precision in (Precision.FP32, Precision.INT8):
        missing = [
            target
            for target in all_formats()
            if not (folder / f"ours.{precision}{target.suffix}").exists()
        ]
        if missing:
            say(f"making ours, {precision}")
            asked = ConvertOptions(tuple(missing), (precision,), folder, name="ours")
            convert(source, asked, calibration=calibration)
        for target in all_formats():
            path = folder / f"ours.{precision}{target.suffix}"
            runs[f"ours, {target} {precision}"] = _session(target, path)
    return runs


def _session(target: Format, path: Path) -> _Engine:
    session = runtime_for(target.default_target).open(path, "cpu", threads=1)
    return _Engine(lambda pixels: pixels, lambda pixels: run_batches(session, pixels))


def _others(network: Network, folder: Path, calibration: ImageSet) -> dict[str, _Engine]:
    """The other engines that are here and take the model; why the others are not is said."""
    graph = folder / "planes.onnx"
    if not graph.exists():
        write_graph(network, graph)
    if not (folder / CALIBRATION).exists():
        pixels = [network.preprocessing(each.image) for each in calibration.samples]
        np.save(folder / CALIBRATION, planes(network, np.stack(pixels)))
    black = planes(network, np.zeros((1, *network.preprocessing.size, 3), np.uint8))
    runs: dict[str, _Engine] = {}
    for name, make in ENGINES.items():
        try:
            run = make(graph, folder)
            run(black)
        # Foreign engines raise whatever they like, and the table goes on without them.
        except Exception as error:
            say(f"{name}: not measured: {type(error).__name__}: {error}")
            continue
        runs[name] = _Engine(partial(planes, network), run)
    return runs


def _measured(
    runs: dict[str, _Engine], network: Network, photos: ImageSet, limit: int, rounds: int
) -> list[Row]:
    samples = photos.samples[:limit]
    names = list(runs)
    first = network.preprocessing(samples[0].image)[None]
    seconds = _seconds([runs[name] for name in names], first, rounds)
    say(f"running {len(samples)} photos")
    found = np.asarray(
        [
            [runs[name].run(runs[name].prepare(pixels)).argmax() for name in names]
            for sample in samples
            for pixels in [network.preprocessing(sample.image)[None]]
        ]
    )
    labels = [sample.label for sample in samples]
    truth = None if any(each is None for each in labels) else np.asarray(labels)
    base = names.index(_BASELINE)
    return [
        Row(
            name,
            statistics.median(b / a for a, b in zip(seconds[base], seconds[at], strict=True)),
            1e3 * statistics.median(seconds[at]),
            float(100 * (found[:, at] == found[:, base]).mean()),
            None if truth is None else float(100 * (found[:, at] == truth).mean()),
            len(samples),
        )
        for at, name in enumerate(names)
    ]


def _seconds(
    runs: Sequence[_Engine], pixels: npt.NDArray[np.uint8], rounds: int
) -> list[list[float]]:
    """Processor seconds of each engine, round by round."""
    given = [each.prepare(pixels) for each in runs]
    found: list[list[float]] = [[] for _ in runs]
    for number in range(_WARM_UP + rounds):
        for times, engine, inputs in zip(found, runs, given, strict=True):
            start = time.process_time()
            engine.run(inputs)
            if number >= _WARM_UP:
                times.append(time.process_time() - start)
    return found


if __name__ == "__main__":
    main()
