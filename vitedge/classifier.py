"""The wrapper for apps: an artefact, its preprocessing and its labels in one object.

It needs NumPy, Pillow and one runtime. ``vitedge.load`` is the way in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata, format_of, read_metadata
from vitedge.errors import ModelError, UsageError
from vitedge.images.preprocess import ImageLike, Preprocessing
from vitedge.loaded.embedder import Embedder
from vitedge.loaded.mapper import Mapper
from vitedge.loaded.model import Info, LoadedModel
from vitedge.loaded.regressor import Regressor
from vitedge.network.tasks import Task
from vitedge.runtimes import runtime_for
from vitedge.stream import Frames, Source, open_source, prepared_images
from vitedge.targets.scores import Scores
from vitedge.targets.target import Target

__all__ = ["Classifier", "Embedder", "Mapper", "Prediction", "Ranking", "Regressor", "load"]

Ranking: TypeAlias = list[tuple[str, float]]
"""Labels with their probabilities, the most probable first."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A frame with the classes that ``Classifier.stream`` found in it.

    Attributes:
        image: The frame, as its source gave it: a camera gives RGB pixels ``(H, W, 3)``.
        ranking: Its classes.
        skipped: Frames before it that were left out, because they were old when it was their turn.
        inference_ms: Wall time of its inference, from pixels to logits.
    """

    image: ImageLike
    ranking: Ranking
    skipped: int
    inference_ms: float


def load(
    path: str | os.PathLike[str],
    target: str | None = None,
    threads: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    draft: bool = False,
) -> LoadedModel:
    """Loads an artefact and runs it once, so that the first image is as quick as the next.

    What comes back has the methods that fit what the model gives: ``Classifier`` for classes, yes
    or no, and labels; ``Embedder``, ``Regressor`` or ``Mapper`` for embeddings, numbers and maps.

    Args:
        path: A ``.tflite``, ``.onnx`` or ``.xml`` file.
        target: The target, such as ``tflite-cpu``; None means the CPU.
        threads: CPU threads; None leaves the choice to the runtime.
        labels: One name per class, instead of those inside the file.
        preprocessing: Instead of that inside the file; needed for files that vitedge did not write.
        task: The meaning of the outputs of a file that vitedge did not write; None means classes.
        draft: Decode JPEG files that are much larger than the input at 1/2, 1/4 or 1/8 of their
            size (Pillow's draft mode), so that at least twice the resized size remains. Files of
            2400 x 2400 pixels then take a sixth of the time, and a quarter of the input's values
            change, by one on average; DeiT-tiny answers 1 or 2 of 100 photos differently.
            Smaller files, other formats and images that are decoded already do not change.

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
    meant = _task(file, task, metadata)
    preprocessing = preprocessing or (metadata.preprocessing if metadata else None)
    if preprocessing is None:
        raise ModelError(f"'{file}' does not say how images are prepared; give preprocessing=...")
    if draft:
        preprocessing = replace(preprocessing, draft=True)
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
    model = _KINDS[meant](session, preprocessing, tuple(labels), wanted, metadata, meant)
    try:
        shape = model.warm_up()
        misfit = "" if meant is Task.CLASSES else meant.misfit(shape)
        if misfit:
            raise ModelError(f"'{file}' gives {shape} for each image, but {misfit}")
        if labels and len(labels) not in meant.label_counts(shape):
            counts = " or ".join(map(str, meant.label_counts(shape)))
            raise ModelError(f"{len(labels)} labels for {counts} {meant}")
    except BaseException:
        model.close()
        raise
    model.info = Info(
        file=file,
        target=wanted,
        engine=engine,
        threads=threads,
        format=format_,
        precision=None if metadata is None else metadata.precision,
        input_shape=session.input_shape,
        classes=shape[-1] if meant.has_logits else 0,
        task=meant,
        output_shape=shape,
    )
    return model


def _task(file: Path, given: str | None, metadata: Metadata | None) -> Task:
    if given is not None and given not in set(Task):
        raise UsageError(f"task must be {', '.join(Task)}, not '{given}'")
    if metadata is None:
        return Task.CLASSES if given is None else Task(given)
    if given not in (None, metadata.task):
        raise UsageError(f"'{file}' gives {metadata.task.words}; leave out task='{given}'")
    return metadata.task


class Classifier(LoadedModel):
    """A loaded artefact that names images; see ``LoadedModel``.

    Of classes, one is right, and their probabilities are a softmax. Each label is right or not by
    itself, and so is yes or no: their probabilities are sigmoids. ``labels`` may be empty: classes
    are then called by their index.
    """

    def classify(self, image: ImageLike, top: int = 5) -> Ranking:
        """Names one image; of yes or no, the answer is the probability of yes alone.

        Args:
            image: A path, encoded bytes, an open file, a Pillow image, or uint8 pixels
                ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)``. Colours are RGB; OpenCV's are the other
                way round: ``pixels[..., ::-1]``.
            top: The largest number of classes to return.

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
        return self._outputs(images)

    def embed(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """The features of several images that the head reads: to compare, search or train with.

        Returns:
            float32 ``(len(images), width)``.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The artefact was converted without ``--features``, or this target does not
                give them; the runtime failed, or the classifier is closed.
        """
        return self._features(images)

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
            top: The largest number of classes to return.
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

    def _predictions(self, frames: Frames, top: int) -> Iterator[Prediction]:
        expected = 0
        with closing(prepared_images(frames, self.preprocessing)) as coming:
            for each in coming:
                started = time.perf_counter()
                logits = self._infer(each.pixels[None])[0]
                inference_ms = 1000 * (time.perf_counter() - started)
                ranking = self._rank(logits, top)
                yield Prediction(each.image, ranking, each.number - expected, inference_ms)
                expected = each.number + 1

    def _rank(self, logits: npt.NDArray[np.float32], top: int) -> Ranking:
        probabilities = logits
        if self.metadata is None or self.metadata.scores is Scores.LOGITS:
            probabilities = _probabilities(self.task, logits)
        order = np.argsort(-probabilities, kind="stable")[: max(top, 0)]
        if self.task is Task.BINARY:
            name = self.labels[-1] if self.labels else "yes"
            return [(name, float(probabilities[index])) for index in order]
        names = self.labels or range(len(logits))
        return [(str(names[index]), float(probabilities[index])) for index in order]


def _probabilities(task: Task, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The softmax of an image's logits, or the sigmoid of each."""
    if task is Task.CLASSES:
        exponentials = np.exp(logits - logits.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)
    return np.asarray(0.5 * np.tanh(0.5 * logits) + 0.5, np.float32)


_KINDS: dict[Task, type[LoadedModel]] = {
    Task.CLASSES: Classifier,
    Task.BINARY: Classifier,
    Task.LABELS: Classifier,
    Task.NUMBERS: Regressor,
    Task.EMBEDDING: Embedder,
    Task.MAP: Mapper,
}
