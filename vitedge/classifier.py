"""The wrapper for apps: an artefact, its preprocessing and its labels in one object.

It needs NumPy, Pillow and one runtime. ``vitedge.load`` is the way in.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata, format_of, read_metadata
from vitedge.errors import ModelError, UsageError
from vitedge.images.label_names import names_for_people
from vitedge.images.preprocess import ImageLike, Preprocessing
from vitedge.network.tasks import Task
from vitedge.runtimes import (
    FeatureSession,
    Placement,
    Session,
    in_batches,
    run_batches,
    runtime_for,
)
from vitedge.stream import Frames, Source, open_source, prepared_images
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores
from vitedge.targets.target import Target

Ranking: TypeAlias = list[tuple[str, float]]
"""Labels with their probabilities, the most probable first."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What ``Classifier.stream`` says of one frame.

    Attributes:
        image: The frame, as its source gave it: a camera gives RGB pixels ``(H, W, 3)``.
        ranking: Its classes.
        skipped: Frames before it that were left out, because they were old when it was their turn.
    """

    image: ImageLike
    ranking: Ranking
    skipped: int


@dataclass(frozen=True)
class Info:
    """What a classifier is and where it runs.

    Attributes:
        file: The artefact.
        target: Runtime and device.
        engine: The engine's package and version, in its own words.
        threads: CPU threads asked for; None left the choice to the engine.
        format: Format of the file.
        precision: What the file says of itself; None when vitedge did not write it.
        input_shape: Shape of the pixels of one run, ``(N, H, W, C)``.
        classes: How many there are.
    """

    file: Path
    target: Target
    engine: str
    threads: int | None
    format: Format
    precision: Precision | None
    input_shape: tuple[int, int, int, int]
    classes: int


def load(
    path: str | os.PathLike[str],
    target: str | None = None,
    threads: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Classifier:
    """Loads an artefact and runs it once, so that the first image is as quick as the next.

    Args:
        path: A ``.tflite``, ``.onnx`` or ``.xml`` file.
        target: Where to run it, such as ``tflite-cpu``; None means the CPU.
        threads: CPU threads; None leaves the choice to the runtime.
        labels: One name per class, instead of those inside the file.
        preprocessing: Instead of that inside the file; needed for files that vitedge did not write.

    Raises:
        ModelError: The file is missing or unreadable, says nothing of its preprocessing, computes
            nothing on this target, or has another number of classes than there are labels.
        UsageError: The target is unknown or reads another format.
        UnavailableError: The runtime or device is not here; the message says how to get it.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    file = Path(path)
    format_ = format_of(file)
    metadata = read_metadata(file)
    if metadata is not None and not metadata.task.has_logits:
        raise ModelError(f"'{file}' gives {metadata.task.words}, which is not classified")
    preprocessing = preprocessing or (metadata.preprocessing if metadata else None)
    if preprocessing is None:
        raise ModelError(f"'{file}' does not say how images are prepared; give preprocessing=...")
    if labels is None:
        labels = metadata.labels if metadata else ()
    try:
        wanted = format_.default_target if target is None else Target.parse(target)
    except ValueError as error:
        raise UsageError(str(error)) from error
    runtime = runtime_for(wanted)
    if runtime.format is not format_:
        raise UsageError(f"target {wanted} runs {runtime.format.suffix} files, not '{file}'")
    engine = runtime.availability(wanted.device).detail
    session = runtime.open(file, wanted.device, threads=threads)
    classifier = Classifier(session, preprocessing, tuple(labels), wanted, metadata)
    try:
        classes = classifier.warm_up()
        if labels and len(labels) not in classifier.task.label_counts((classes,)):
            raise ModelError(f"{len(labels)} labels for {classes} classes")
    except BaseException:
        classifier.close()
        raise
    classifier.info = Info(
        file=file,
        target=wanted,
        engine=engine,
        threads=threads,
        format=format_,
        precision=None if metadata is None else metadata.precision,
        input_shape=session.input_shape,
        classes=classes,
    )
    return classifier


class Classifier:
    """A loaded artefact. Safe to share between threads; inference itself runs one at a time.

    Attributes:
        preprocessing: How images become pixels.
        labels: One name per class, without WordNet ids; or empty: classes are then called by their
            index.
        target: Where it runs.
        metadata: What the file says of itself, or None when vitedge did not write it.
        task: What the scores mean.
        info: What it is and where it runs.
    """

    info: Info

    def __init__(
        self,
        session: Session,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        target: Target,
        metadata: Metadata | None = None,
    ) -> None:
        self.preprocessing, self.target = preprocessing, target
        self.labels = names_for_people(labels)
        self.metadata = metadata
        self.task = Task.CLASSES if metadata is None else metadata.task
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
            image: A path, encoded bytes, an open file, a Pillow image, or uint8 pixels
                ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)``. Colours are RGB; OpenCV's are the other
                way round: ``pixels[..., ::-1]``.
            top: How many classes to return at most.

        Raises:
            DataError: The image cannot be decoded.
            ModelError: The runtime failed, or the classifier is closed.
        """
        return self.classify_batch([image], top)[0]

    def classify_batch(self, images: Iterable[ImageLike], top: int = 5) -> list[Ranking]:
        """Names several images; see ``classify``."""
        return [self._rank(row, top) for row in self.logits(images)]

    def logits(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """Scores of several images as the artefact gives them.

        Returns:
            float32 ``(len(images), classes)``: logits, or probabilities where it was converted with
            ``--probabilities``.
        """
        return self._infer(self.preprocessing.batch(images))

    def embed(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """What the head reads of several images: features to compare, search or train with.

        Returns:
            float32 ``(len(images), width)``.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The artefact was converted without ``--features``, or this target does not
                give them; the runtime failed, or the classifier is closed.
        """
        pixels = self.preprocessing.batch(images)
        with self._lock:
            session = self._open_session()
            if not isinstance(session, FeatureSession):
                raise ModelError(
                    f"{self.target} gives no features; load the file on its CPU target"
                )
            return in_batches(session.features, session.input_shape[0], pixels)

    def placement(self) -> Placement | None:
        """How many nodes run on the target's device; None where the engine does not tell.

        Raises:
            ModelError: The classifier is closed.
        """
        with self._lock:
            return self._open_session().placement()

    def stream(
        self, source: Source, top: int = 5, *, newest: bool | None = None
    ) -> Iterator[Prediction]:
        """Names images as they come.

        While one is inferred, the next is prepared and the one after that captured or decoded.
        Where frames come faster than they are asked for, those of a camera are skipped and the
        newest wins; every image of a folder or an iterable is named, unless ``newest`` says
        otherwise.

        Args:
            source: The number of a camera, a folder, or an iterable of images.
            top: How many classes to return at most.
            newest: Whether frames that come too fast are skipped; None means those of cameras.

        Raises:
            DataError: The source cannot be opened, or an image of it cannot be decoded.
            UsageError: The source is none.
            UnavailableError: No package that reads cameras is installed.
            ModelError: The runtime failed, or the classifier is closed.
        """
        # Opened here and not when the first prediction is asked for: a missing camera is an
        # error of this call.
        return self._predictions(open_source(source, newest=newest), top)

    def warm_up(self) -> int:
        """Runs once on noise: engines compile and allocate in their first run. ``load`` does it.

        Returns:
            How many classes there are.

        Raises:
            ModelError: The logits are all zero or not finite, as those of accelerators are that
                fail in silence; or the classifier is closed.
        """
        size, channels = self.preprocessing.size, self.preprocessing.channels
        noise = np.random.default_rng(0).integers(0, 256, (1, *size, channels), np.uint8)
        logits = self._infer(noise)
        if not np.isfinite(logits).all() or not logits.any():
            raise ModelError(
                f"{self.target} computes nothing of this artefact: its logits are all zero or not "
                "finite; another precision or target may do better"
            )
        return int(logits.shape[1])

    def _predictions(self, frames: Frames, top: int) -> Iterator[Prediction]:
        expected = 0
        with closing(prepared_images(frames, self.preprocessing)) as coming:
            for each in coming:
                ranking = self._rank(self._infer(each.pixels[None])[0], top)
                yield Prediction(each.image, ranking, each.number - expected)
                expected = each.number + 1

    def _infer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with self._lock:
            return run_batches(self._open_session(), pixels)

    def _open_session(self) -> Session:
        if self._session is None:
            raise ModelError("the classifier is closed")
        return self._session

    def _rank(self, logits: npt.NDArray[np.float32], top: int) -> Ranking:
        probabilities = logits
        if self.metadata is None or self.metadata.scores is Scores.LOGITS:
            probabilities = _probabilities(self.task, logits)
        order = np.argsort(-probabilities, kind="stable")[: max(top, 0)]
        if self.task is Task.BINARY and self.labels:
            return [(self.labels[-1], float(probabilities[index])) for index in order]
        names = self.labels or range(len(logits))
        return [(str(names[index]), float(probabilities[index])) for index in order]


def _probabilities(task: Task, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The softmax of an image's logits, or the sigmoid of each."""
    if task is Task.CLASSES:
        exponentials = np.exp(logits - logits.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)
    return np.asarray(0.5 * np.tanh(0.5 * logits) + 0.5, np.float32)
