"""The wrapper for apps: an artefact, its preprocessing and its labels in one object.

It needs NumPy, Pillow and one runtime. ``vitedge.load`` is the way in.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifact import Metadata, format_of, read_metadata
from vitedge.errors import ModelError, UsageError
from vitedge.preprocess import ImageLike, Preprocessing
from vitedge.runtimes import Session, run_batches, runtime_for, runtimes
from vitedge.spec import Target

Ranking: TypeAlias = list[tuple[str, float]]
"""Labels with their probabilities, the most probable first."""


def load(
    path: str | os.PathLike[str],
    target: str | None = None,
    threads: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Classifier:
    """Loads an artefact.

    Args:
        path: A ``.tflite``, ``.onnx`` or ``.xml`` file.
        target: Where to run it, such as ``tflite-cpu``; None means the CPU.
        threads: CPU threads; None leaves the choice to the runtime.
        labels: One name per class, instead of those inside the file.
        preprocessing: Instead of that inside the file; needed for files that vitedge did not write.

    Raises:
        ModelError: The file is missing or unreadable, or says nothing of its preprocessing.
        UsageError: The target is unknown or reads another format.
        UnavailableError: The runtime or device is not here; the message says how to get it.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    file = Path(path)
    format_ = format_of(file)
    metadata = read_metadata(file)
    preprocessing = preprocessing or (metadata.preprocessing if metadata else None)
    if preprocessing is None:
        raise ModelError(f"'{file}' does not say how images are prepared; give preprocessing=...")
    if labels is None:
        labels = metadata.labels if metadata else ()
    runtime = None
    if target is None:
        runtime = next(known for known in runtimes() if known.format is format_)
        wanted = Target(runtime.name, "cpu")
    else:
        try:
            wanted = Target.parse(target)
        except ValueError as error:
            raise UsageError(str(error)) from error
        runtime = runtime_for(wanted)
        if runtime.format is not format_:
            raise UsageError(f"target {wanted} runs {runtime.format.suffix} files, not '{file}'")
    session = runtime.open(file, wanted.device, threads=threads)
    return Classifier(session, preprocessing, tuple(labels), wanted, metadata)


class Classifier:
    """A loaded artefact. Safe to share between threads; inference itself runs one at a time.

    Attributes:
        preprocessing: How images become pixels.
        labels: One name per class, or empty: classes are then called by their index.
        target: Where it runs.
        metadata: What the file says of itself, or None when vitedge did not write it.
    """

    def __init__(
        self,
        session: Session,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        target: Target,
        metadata: Metadata | None = None,
    ) -> None:
        self.preprocessing, self.labels, self.target = preprocessing, labels, target
        self.metadata = metadata
        self._session: Session | None = session
        self._lock = threading.Lock()
        shape = session.input_shape
        if shape[1:] != (*preprocessing.size, preprocessing.channels):
            session.close()
            raise ModelError(
                f"the artefact takes {shape[1:]} pixels, but preprocessing makes "
                f"{(*preprocessing.size, preprocessing.channels)}"
            )

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model. May be called twice."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def classify(self, image: ImageLike, top: int = 5) -> Ranking:
        """Names one image.

        Args:
            image: A path, encoded bytes, uint8 pixels ``(H, W, 3)`` or ``(H, W)``, or a Pillow
                image.
            top: How many classes to return at most.

        Raises:
            DataError: The image cannot be decoded.
            ModelError: The runtime failed, or the classifier is closed.
        """
        return self.classify_batch([image], top)[0]

    def classify_batch(self, images: Sequence[ImageLike], top: int = 5) -> list[Ranking]:
        """Names several images; see ``classify``."""
        return [self._rank(row, top) for row in self.logits(images)]

    def logits(self, images: Sequence[ImageLike]) -> npt.NDArray[np.float32]:
        """Raw scores of several images, float32 ``(len(images), classes)``."""
        return self._infer(self.preprocessing.batch(images))

    def stream(self, images: Iterable[ImageLike], top: int = 5) -> Iterator[Ranking]:
        """Names images as they come, preparing the next while the last is inferred.

        Args:
            images: A camera, a folder's files, any iterable; it is read one image ahead.
            top: How many classes to return at most.
        """
        source = iter(images)

        def prepare_next() -> npt.NDArray[np.uint8] | None:
            for image in source:
                return self.preprocessing(image)
            return None

        with ThreadPoolExecutor(1, "vitedge-preprocess") as pool:
            coming = pool.submit(prepare_next)
            while (pixels := coming.result()) is not None:
                coming = pool.submit(prepare_next)
                yield self._rank(self._infer(pixels[None])[0], top)

    def _infer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with self._lock:
            if self._session is None:
                raise ModelError("the classifier is closed")
            return run_batches(self._session, pixels)

    def _rank(self, logits: npt.NDArray[np.float32], top: int) -> Ranking:
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        order = np.argsort(-probabilities, kind="stable")[: max(top, 0)]
        if self.labels and len(self.labels) != len(logits):
            raise ModelError(f"{len(self.labels)} labels for {len(logits)} classes")
        names = self.labels or tuple(str(index) for index in range(len(logits)))
        return [(names[index], float(probabilities[index])) for index in order]
