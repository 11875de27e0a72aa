"""What does decoding large JPEG files at a lower scale save, and what does it change?

Run: ``python benchmarks/scaled_decoding.py ARTIFACT... --photos FOLDER``. ``vitedge.load(...,
draft=True)`` decodes a JPEG at 1/2, 1/4 or 1/8 of its size where twice the resized size remains.
Both ways run in turns on each photo; a time is the median of processor seconds. What it changes is
compared in the pixels of the input and in the answers of each artefact.

``--side 2400`` first enlarges each photo (Lanczos) until its shorter side has so many pixels, and
saves it as a JPEG: small photos stand in for a camera's, whose finest detail they lack.
``--margin`` tries other multiples of the resized size that must remain.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import vitedge
from vitedge.images import preprocess
from vitedge.images.preprocess import Preprocessing

_JPEG_QUALITY = 92


def main() -> None:
    """Parses the command line, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=100, help="photos to use")
    parser.add_argument("--side", type=int, help="shorter side to enlarge photos to")
    parser.add_argument("--margin", type=int, nargs="*", help="instead of the option's own")
    options = parser.parse_args()
    paths = sorted(options.photos.glob("*.jpg"))[: options.count]
    models = [vitedge.load(path, threads=1) for path in options.artifacts]
    plain = models[0].preprocessing
    margins = options.margin or [preprocess._DRAFT_MARGIN]
    found = [_one(_content(path, options.side), plain, margins) for path in paths]
    print(
        f"n = {len(paths)}; whole: {_median(each[0][0] for each in found):.1f} ms of the processor"
    )
    before = [each[0][1] for each in found]
    heads = "".join(f" {each.info.file.name}: same answer %, SQNR dB |" for each in models)
    print(f"| margin | ms | share | values changed % | mean change |{heads}")
    print(f"|--:|--:|--:|--:|--:|{'--:|' * len(models)}")
    for at, margin in enumerate(margins, start=1):
        after = [each[at][1] for each in found]
        ms = _median(each[at][0] for each in found)
        share = _median(each[at][0] / each[0][0] for each in found)
        apart = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16))
        answers = "".join(f" {_answers(each, before, after)} |" for each in models)
        print(
            f"| {margin} | {ms:.1f} | {share:.2f} | {100 * (apart > 0).mean():.1f} "
            f"| {apart.mean():.2f} |{answers}"
        )


def _content(path: Path, side: int | None) -> bytes:
    """The file, or the photo enlarged as another."""
    if side is None:
        return path.read_bytes()
    picture = Image.open(path).convert("RGB")
    factor = side / min(picture.size)
    width, height = (round(factor * each) for each in picture.size)
    made = io.BytesIO()
    large = picture.resize((width, height), Image.Resampling.LANCZOS)
    large.save(made, "JPEG", quality=_JPEG_QUALITY)
    return made.getvalue()


def _one(
    content: bytes, plain: Preprocessing, margins: list[int]
) -> list[tuple[float, npt.NDArray[np.uint8]]]:
    """Milliseconds and pixels: of the whole file, then with each margin."""
    found = [_timed(lambda: plain(content))]
    for margin in margins:
        preprocess._DRAFT_MARGIN = margin
        found.append(_timed(lambda: replace(plain, draft=True)(content)))
    return found


def _timed(
    run: Callable[[], npt.NDArray[np.uint8]],
) -> tuple[float, npt.NDArray[np.uint8]]:
    start = time.process_time()
    pixels = run()
    return 1e3 * (time.process_time() - start), pixels


def _answers(
    model: vitedge.Classifier,
    before: list[npt.NDArray[np.uint8]],
    after: list[npt.NDArray[np.uint8]],
) -> str:
    """Agreement of the answers, and SQNR of the logits."""
    first, second = (model.logits([*pixels]) for pixels in (before, after))
    same = 100 * (first.argmax(axis=1) == second.argmax(axis=1)).mean()
    noise = float(((first - second) ** 2).sum())
    return f"{same:.1f}, {10 * np.log10(float((first**2).sum()) / noise):.1f}"


def _median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    main()
