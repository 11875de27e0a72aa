"""Logits of a whole set of images, streamed through one session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.bench.messages import Infer, Inferred
from vitedge.bench.spool import count_spool, read_spool
from vitedge.errors import DataError
from vitedge.preprocess import ImageLike, Preprocessing
from vitedge.runtimes import Session

_SHOWN_CLASSES = 5


@dataclass
class _Times:
    """Milliseconds of each step, as they come."""

    preprocess: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    postprocess: list[float] = field(default_factory=list)


def infer(session: Session, command: Infer, on_image: Callable[[int], None]) -> Inferred:
    """Obeys ``Infer``; ``on_image`` is told how many images are done."""
    index = Path(command.images)
    n, batch = count_spool(index), session.input_shape[0]
    preprocessing = Preprocessing.from_dict(command.preprocessing)
    times, unreadable = _Times(), list[tuple[int, str]]()
    table: npt.NDArray[np.float32] | None = None
    readable = _preprocessed(read_spool(index), preprocessing, times, unreadable)
    for positions, pixels in _batches(readable, batch):
        logits = _classify(session, pixels, times)[: len(positions)]
        if table is None:
            # Mapped, so that memory does not grow with the set.
            table = np.lib.format.open_memmap(
                command.logits, "w+", np.dtype(np.float32), (n, logits.shape[1])
            )
        table[positions] = logits
        on_image(positions[-1] + 1)
    if table is None:
        raise DataError(f"none of {n} images can be read: {unreadable[0][1] if n else 'no images'}")
    table.flush()  # type: ignore[attr-defined]  # NumPy types a memmap as the plain array
    return Inferred(n, unreadable, times.preprocess, times.inference, times.postprocess)


def _preprocessed(
    images: Iterator[ImageLike],
    preprocessing: Preprocessing,
    times: _Times,
    unreadable: list[tuple[int, str]],
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    for position, image in enumerate(images):
        started = time.perf_counter()
        try:
            pixels = preprocessing(image)
        except DataError as error:
            unreadable.append((position, str(error)))
            continue
        times.preprocess.append((time.perf_counter() - started) * 1000.0)
        yield position, pixels


def _batches(
    images: Iterator[tuple[int, npt.NDArray[np.uint8]]], batch: int
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    """Static batches; the last one repeats its last image to be full."""
    positions: list[int] = []
    stack: list[npt.NDArray[np.uint8]] = []
    for position, pixels in images:
        positions.append(position)
        stack.append(pixels)
        if len(stack) == batch:
            yield positions, np.stack(stack)
            positions, stack = [], []
    if stack:
        yield positions, np.stack(stack + [stack[-1]] * (batch - len(stack)))


def _classify(session: Session, pixels: npt.NDArray[Any], times: _Times) -> npt.NDArray[np.float32]:
    started = time.perf_counter()
    logits = session.run(pixels)
    inferred = time.perf_counter()
    _top_classes(logits)
    times.inference.append((inferred - started) * 1000.0)
    times.postprocess.append((time.perf_counter() - inferred) * 1000.0)
    return logits


def _top_classes(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """What an app does with logits: softmax, and the best classes in order."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.argsort(-probabilities, axis=-1)[:, :_SHOWN_CLASSES]
