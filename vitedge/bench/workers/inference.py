"""Logits of a whole set of images, streamed through one session."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.bench.workers.logits import LogitsWriter
from vitedge.bench.workers.messages import Infer, Inferred
from vitedge.bench.workers.spool import count_spool, read_spool
from vitedge.errors import DataError
from vitedge.images.preprocess import ImageLike, Preprocessing, open_image
from vitedge.runtimes import PreparingSession, Session, clock_of

_SHOWN_CLASSES = 5

# Enough for a 99th percentile; the times of fifty thousand images say no more.
_MOST_TIMES = 1000


# Each takes an inference more, and what they differ by shows in a few dozen.
_MOST_PREPARED = 50


@dataclass
class _Prepared:
    """Images that are prepared as apps on the target do it, against ours.

    Attributes:
        images: The number of images.
        alike: The number of images with the same top class.
        largest: Largest difference of a pixel.
        total: Sum of the images' mean absolute differences.
    """

    images: int = 0
    alike: int = 0
    largest: int = 0
    total: float = 0.0

    def note(
        self, ours: npt.NDArray[np.uint8], theirs: npt.NDArray[np.uint8], is_alike: bool
    ) -> None:
        """Adds one image."""
        difference = np.abs(theirs.astype(np.int16) - ours)
        self.images += 1
        self.alike += is_alike
        self.largest = max(self.largest, int(difference.max()))
        self.total += float(difference.mean())


@dataclass
class _Times:
    """Milliseconds of the first so many of each step."""

    preprocess: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    postprocess: list[float] = field(default_factory=list)

    @staticmethod
    def note(step: list[float], seconds: float) -> None:
        """Adds one, as long as there are not enough."""
        if len(step) < _MOST_TIMES:
            step.append(1000.0 * seconds)


def infer(session: Session, command: Infer, on_image: Callable[[int], None]) -> Inferred:
    """Obeys ``Infer``; ``on_image`` is told how many images are done.

    Raises:
        DataError: No image is readable.
        VitedgeError: The disk refuses.
    """
    index = Path(command.images)
    n, batch = count_spool(index), session.input_shape[0]
    preprocessing = Preprocessing.from_dict(command.preprocessing)
    times = _Times()
    with LogitsWriter(Path(command.logits), command.classes) as table:
        on_image(table.rows)
        images = enumerate(read_spool(index, table.rows), start=table.rows)
        readable = _preprocessed(images, preprocessing, times, table.leave_out)
        for positions, pixels in _batches(readable, batch):
            made = _classify(session, pixels, times)[: len(positions)]
            table.write(positions, made.reshape(len(positions), -1))
            on_image(table.rows)
        table.finish(n)
    prepared = _Prepared()
    if isinstance(session, PreparingSession):
        for ours, theirs in _prepared_twice(session.prepare, read_spool(index), preprocessing):
            prepared.note(ours, theirs, _is_alike(session, ours, theirs))
            on_image(n)  # a sign of life
            if prepared.images == _MOST_PREPARED:
                break
    unreadable = sorted(table.unreadable.items())
    if len(unreadable) == n:
        raise DataError(f"none of {n} images can be read: {unreadable[0][1] if n else 'no images'}")
    return Inferred(
        *(n, unreadable, times.preprocess, times.inference, times.postprocess),
        prepared=prepared.images,
        prepared_alike=prepared.alike,
        prepared_largest=prepared.largest,
        prepared_mean=prepared.total / max(prepared.images, 1),
    )


def _prepared_twice(
    prepare: Callable[[bytes, Preprocessing], npt.NDArray[np.uint8] | None],
    images: Iterable[ImageLike],
    preprocessing: Preprocessing,
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Images as Pillow prepares them, and as apps on the target do; those that both can read."""
    for image in images:
        try:
            ours = preprocessing(image)
        except DataError:
            continue
        theirs = prepare(_encoded(image), preprocessing)
        if theirs is not None:
            yield ours, theirs


def _is_alike(session: Session, ours: npt.NDArray[np.uint8], theirs: npt.NDArray[np.uint8]) -> bool:
    """Whether two forms of an image get the same top class."""
    if np.array_equal(ours, theirs):
        return True
    batch = session.input_shape[0]
    first, second = (session.run(np.stack([each] * batch))[0].argmax() for each in (ours, theirs))
    return bool(first == second)


def _encoded(image: ImageLike) -> bytes:
    """An image as a file holds it; without loss where it comes from none."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    stream = io.BytesIO()
    open_image(image).save(stream, "PNG")
    return stream.getvalue()


def _preprocessed(
    images: Iterable[tuple[int, ImageLike]],
    preprocessing: Preprocessing,
    times: _Times,
    leave_out: Callable[[int, str], None],
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    for position, image in images:
        started = time.perf_counter()
        try:
            pixels = preprocessing(image)
        except DataError as error:
            leave_out(position, str(error))
            continue
        times.note(times.preprocess, time.perf_counter() - started)
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
    clock = clock_of(session)
    started = clock()
    logits = session.run(pixels)
    times.note(times.inference, clock() - started)
    inferred = time.perf_counter()
    _top_classes(logits)
    times.note(times.postprocess, time.perf_counter() - inferred)
    return logits


def _top_classes(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Does with logits what an app does: softmax, and the best classes in order."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.argsort(-probabilities, axis=-1)[:, :_SHOWN_CLASSES]
