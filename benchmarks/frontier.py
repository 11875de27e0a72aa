"""How much faster are int8 artefacts with fewer tokens, and what do they lose?

Run: ``python benchmarks/frontier.py --weights deit_tiny_patch16_224.safetensors --photos FOLDER``
(``pip install -e '.[all]'``). Artefacts are calibrated on FOLDER/calibration and measured on
FOLDER/validation. Each share of the work (``--tokens``) is timed against the int8 artefact without
merging, on one thread, in turns A B C A B C; the ratio is the median over the rounds of processor
seconds, which other work on the machine disturbs least. The points lost are paired: of the same
photos, with the interval that holds 95 % of such sets of photos. Artefacts stay in ``--folder``,
and a later run measures them again without making them.

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

from vitedge.artifacts.metadata import read_metadata
from vitedge.images.image_sets import ImageSet
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.runtimes import run_batches
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

# Half the width of a normal distribution's middle 95 %.
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Point:
    """One artefact on the front.

    Attributes:
        format: Its format.
        tokens: What was asked for: share of the work, and whether groups are constant.
        merged: Where tokens are merged, in words.
        latency_ratio: Median over rounds of its processor seconds over those without merging.
        latency_ms: Median of its processor milliseconds.
        rounds: How many.
        top1: Percent of photos, or None without labels.
        lost: Points of top-1 lost against int8 without merging, paired; else of agreement.
        interval: Half the width of its 95 % interval.
        n: Photos.
    """

    format: Format
    tokens: str
    merged: str
    latency_ratio: float
    latency_ms: float
    rounds: int
    top1: float | None
    lost: float
    interval: float
    n: int


def main() -> None:
    """Parses the command line, measures, and prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="DeiT-tiny's weights")
    parser.add_argument("--model", choices=list(MODELS), help="another model, of random weights")
    parser.add_argument("--photos", type=Path, help="folder with calibration/ and validation/")
    parser.add_argument("--folder", type=Path, help="where artefacts stay")
    parser.add_argument("--tokens", type=float, nargs="*", default=[0.8, 0.7, 0.6])
    parser.add_argument("--constant", type=float, nargs="*", default=[])
    parser.add_argument("--format", choices=list(all_formats()), nargs="+", dest="formats")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = [TokenOptions(each) for each in options.tokens]
    wanted += [TokenOptions(each, constant=True) for each in options.constant]
    formats = tuple(Format(each) for each in options.formats or all_formats())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        name = options.model or ("miniature" if options.weights is None else "deit-tiny")
        network, source = open_model(name, folder, options.weights)
        calibration, photos = photo_sets(network.preprocessing, options.photos, made_up=8)
        points = []
        for target in formats:
            paths = [
                _artefact(source, folder, target, each, calibration) for each in (None, *wanted)
            ]
            points += _measured(target, paths, [None, *wanted], photos, options.rounds)
    if options.json:
        print(json.dumps([asdict(each) for each in points]))
        return
    print("| format | tokens | latency ratio | ms | top-1 % | points lost | merged |")
    print("|---|---|--:|--:|--:|--:|---|")
    for each in points:
        top1 = "" if each.top1 is None else f"{each.top1:.1f}"
        print(
            f"| {each.format} | {each.tokens} | {each.latency_ratio:.3f} | {each.latency_ms:.2f} "
            f"| {top1} | {each.lost:+.1f} +-{each.interval:.1f} | {each.merged} |"
        )


def _words(tokens: TokenOptions | None) -> str:
    if tokens is None:
        return "all"
    return f"{tokens.share:g}{' constant' if tokens.constant else ''}"


def _artefact(
    source: Path,
    folder: Path,
    target: Format,
    tokens: TokenOptions | None,
    calibration: ImageSet,
) -> Path:
    made = folder / _words(tokens).replace(" ", "-")
    path = made / f"{source.stem}.int8{target.suffix}"
    if not path.exists():
        say(f"making {path}")
        asked = ConvertOptions((target,), (Precision.INT8,), made, tokens=tokens)
        convert(source, asked, calibration=calibration)
    return path


def _measured(
    target: Format,
    paths: Sequence[Path],
    tokens: Sequence[TokenOptions | None],
    photos: ImageSet,
    rounds: int,
) -> list[Point]:
    sessions = [open_on_one_thread(target, path) for path in paths]
    metadata = [read_metadata(path) for path in paths]
    try:
        seconds = processor_seconds(sessions, rounds)
        say(f"running {len(photos.samples)} photos in {target}")
        pixels = _preprocessed(metadata[0].preprocessing, photos)
        found = [np.concatenate([_classes(each, part) for part in pixels]) for each in sessions]
    finally:
        for session in sessions:
            session.close()
    labels = [sample.label for sample in photos.samples]
    truth = found[0] if any(label is None for label in labels) else np.asarray(labels)
    right = [each == truth for each in found]
    points = []
    for at, asked in enumerate(tokens):
        apart = right[0].astype(float) - right[at]
        merging = metadata[at].merging
        points.append(
            Point(
                target,
                _words(asked),
                "" if merging is None else merging.words.split(";")[0],
                statistics.median(b / a for a, b in zip(seconds[0], seconds[at], strict=True)),
                1e3 * statistics.median(seconds[at]),
                rounds,
                None if truth is found[0] else float(100 * right[at].mean()),
                float(100 * apart.mean()),
                float(100 * _NORMAL_95 * apart.std() / len(apart) ** 0.5),
                len(apart),
            )
        )
    return points


def _preprocessed(preprocessing, photos: ImageSet) -> list[npt.NDArray[np.uint8]]:  # noqa: ANN001
    return [preprocessing.batch([sample.image]) for sample in photos.samples]


def _classes(session, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:  # noqa: ANN001
    return run_batches(session, pixels).argmax(axis=1)


if __name__ == "__main__":
    main()
