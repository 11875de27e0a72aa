"""The parts of every loaded artefact: a session, its preprocessing, and a lock around both."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata
from vitedge.errors import ModelError, UsageError
from vitedge.images.label_names import names_for_people
from vitedge.images.preprocess import ImageLike, Preprocessing
from vitedge.network.tasks import Task
from vitedge.runtimes import (
    FeatureSession,
    NamedSession,
    Placement,
    Session,
    in_batches,
    run_batches,
)
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

_METHODS = MappingProxyType(
    {
        Task.CLASSES: "classify, classify_batch, logits or stream",
        Task.BINARY: "classify, classify_batch, logits or stream",
        Task.LABELS: "classify, classify_batch, logits or stream",
        Task.NUMBERS: "predict",
        Task.EMBEDDING: "embed or similarity",
        Task.MAP: "predict or raw",
    }
)
"""What to call, by what a model gives."""

_ANY_METHOD = frozenset(
    ("classify", "classify_batch", "logits", "stream", "embed", "similarity", "predict", "raw")
)


EMBEDDING = "embedding"
"""What the output is called that a head reads, where it was asked for by that name."""


class WrongTaskError(UsageError, AttributeError):
    """A loaded model was asked for what its outputs do not mean."""


@dataclass(frozen=True)
class Info:
    """A description of a loaded model and its place.

    Attributes:
        file: The artefact.
        target: Runtime and device.
        engine: The engine's package and version, in its own words.
        threads: CPU threads asked for; None left the choice to the engine.
        format: Format of the file.
        precision: The precision in the file's metadata; None if vitedge did not write the file.
        input_shape: Shape of the pixels of one run, ``(N, H, W, C)``.
        classes: The number of logits; 0 if the outputs are not logits.
        task: The meaning of the outputs.
        output_shape: Shape of the output of one image.
    """

    file: Path
    target: Target
    engine: str
    threads: int | None
    format: Format
    precision: Precision | None
    input_shape: tuple[int, int, int, int]
    classes: int
    task: Task = Task.CLASSES
    output_shape: tuple[int, ...] = ()


class LoadedModel:
    """A loaded artefact. Safe to share between threads; inference itself runs one at a time.

    Attributes:
        preprocessing: The steps from images to pixels.
        labels: One name per number of the output, without WordNet ids; or empty.
        target: The target that it runs on.
        metadata: The file's metadata, or None if vitedge did not write it.
        task: The meaning of the outputs.
        info: The description of the model and its place.
    """

    info: Info

    def __init__(
        self,
        session: Session,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        target: Target,
        metadata: Metadata | None = None,
        task: Task | None = None,
    ) -> None:
        self.preprocessing, self.target = preprocessing, target
        self.labels = names_for_people(labels)
        self.metadata = metadata
        self.task = task or (Task.CLASSES if metadata is None else metadata.task)
        self._session: Session | None = session
        self._lock = threading.Lock()
        shape = session.input_shape
        if shape[1:] != (*preprocessing.size, preprocessing.channels):
            session.close()
            raise ModelError(
                f"the artefact takes {shape[1:]} pixels, but preprocessing makes "
                f"{(*preprocessing.size, preprocessing.channels)}"
            )

    def __getattr__(self, name: str) -> Any:
        if name not in _ANY_METHOD:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        raise WrongTaskError(
            f"the model gives {self.task.words}, so there is no {name}: use {_METHODS[self.task]}"
        )

    def __enter__(self) -> Self:
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

    def placement(self) -> Placement | None:
        """The number of nodes on the target's device; None where the engine does not tell.

        Raises:
            ModelError: The model is closed.
        """
        with self._lock:
            return self._open_session().placement()

    def warm_up(self) -> tuple[int, ...]:
        """Runs once on noise: engines compile and allocate in their first run. ``load`` does it.

        Returns:
            The shape of the output of one image.

        Raises:
            ModelError: The outputs are all zero or not finite, as those of accelerators are that
                fail without an error; or the model is closed.
        """
        size, channels = self.preprocessing.size, self.preprocessing.channels
        noise = np.random.default_rng(0).integers(0, 256, (1, *size, channels), np.uint8)
        made = self._infer(noise)
        # A measured value of noise, or a map of it, may well be zero.
        may_be_zero = self.task in (Task.NUMBERS, Task.MAP)
        if not np.isfinite(made).all() or not (may_be_zero or made.any()):
            raise ModelError(
                f"{self.target} computes nothing of this artefact: its outputs are all zero or not "
                "finite; another precision or target may do better"
            )
        return made.shape[1:]

    def _outputs(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        return self._infer(self.preprocessing.batch(images))

    def _infer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with self._lock:
            return run_batches(self._open_session(), pixels)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs, the main one's first; empty where the target tells none."""
        with self._lock:
            session = self._open_session()
            return session.outputs if isinstance(session, NamedSession) else ()

    def output(self, name: str, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """One output of several images, as the artefact gives it: ``tokens``, ``block.3`` ...

        Args:
            name: One of ``outputs``.
            images: The images.

        Returns:
            float32 ``(len(images), ...)``.

        Raises:
            UsageError: There is no such output, or this target gives the main one alone.
            DataError: An image cannot be decoded.
            ModelError: The runtime failed, or the model is closed.
        """
        if name not in self.outputs:
            has = ", ".join(self.outputs) or f"the main one alone on {self.target}"
            raise UsageError(
                f"the artefact has no output '{name}', but {has}; `vitedge convert --also {name}` "
                "adds it"
            )
        pixels = self.preprocessing.batch(images)
        with self._lock:
            session = self._open_session()
            assert isinstance(session, NamedSession)
            return in_batches(partial(session.output, name), session.input_shape[0], pixels)

    def _features(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """The features of several images that the head reads."""
        if EMBEDDING in self.outputs[1:]:
            return self.output(EMBEDDING, images)
        pixels = self.preprocessing.batch(images)
        with self._lock:
            session = self._open_session()
            if not isinstance(session, FeatureSession):
                raise ModelError(
                    f"{self.target} gives no features; load the file on its CPU target"
                )
            return in_batches(session.features, session.input_shape[0], pixels)

    def _open_session(self) -> Session:
        if self._session is None:
            raise ModelError("the model is closed")
        return self._session
