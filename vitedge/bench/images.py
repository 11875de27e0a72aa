"""The images of a bench, as all its trials share them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitedge.artifacts.metadata import read_metadata
from vitedge.bench.accuracy import Truth
from vitedge.bench.candidates import find_candidates
from vitedge.bench.reference import (
    ArtifactReference,
    ModelReference,
    Reference,
    StoredReference,
    run_model,
)
from vitedge.bench.trial import Trial
from vitedge.bench.workers.logits import LogitsStore, StoredLogits
from vitedge.bench.workers.spool import digest_spool, sizes_of, write_spool
from vitedge.errors import DataError, ModelError, UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing, open_image
from vitedge.network.tasks import Task
from vitedge.report.results import DataUsed, Row
from vitedge.targets.scores import Scores

_THUMBNAIL_PIXELS = 64
_MOST_THUMBNAILS = 64


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images, spooled.

    Attributes:
        data: The set.
        index: The file that the set is spooled into.
        truth: Names and labels.
        store: The folder of these images' logits.
        reference: The reference's logits, or None.
        preprocessing: The reference's, for artefacts that do not state their own; or None.
    """

    data: ImageSet
    index: Path
    truth: Truth
    store: LogitsStore
    reference: StoredLogits | None = None
    preprocessing: Preprocessing | None = None

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.truth.names)

    def assess(self, trial: Trial, on_image: Callable[[int], None]) -> None:
        """Accuracy and agreement of one trial."""
        logits = trial.infer(self.index, self.store, self.preprocessing, on_image)
        if logits is None or trial.inferred is None:
            return
        usable = np.ones(self.n, np.bool_)
        usable[[position for position, _ in trial.inferred.unreadable]] = False
        trial.judge_logits(logits, replace(self.truth, usable=usable), self.reference)
        self.store.release(logits.path)

    def check_labels(self, trial: Trial) -> None:
        """Refuses labels that an opened artefact has no class for, before time is spent on it.

        Raises:
            DataError: There is one.
        """
        largest = int(self.truth.labels.max())
        if trial.opened is None or not trial.task.has_logits:
            return
        classes = 2 if trial.task is Task.BINARY else trial.opened.classes
        if largest >= classes:
            raise DataError(
                f"the data has class '{self.truth.class_name(largest)}' (index {largest}), but "
                f"'{trial.candidate.artifact}' has {classes} classes"
            )

    def used_by(self, trials: Iterable[Trial]) -> DataUsed:
        """The set, and what of it could not be read."""
        found = {
            position: reason
            for trial in trials
            if trial.inferred is not None
            for position, reason in trial.inferred.unreadable
        }
        names = self.truth.names
        unreadable = tuple(f"{names[position]}: {found[position]}" for position in sorted(found))
        return DataUsed(self.data.name, self.n, unreadable, self._digest())

    def thumbnails(self, rows: Sequence[Row]) -> dict[str, str]:
        """Small JPEGs as ``data:`` addresses, by name, of the images that some row flips."""
        compared = [row.vs_float for row in rows if row.vs_float]
        wanted = {flip.image for found in compared for flip in found.flips} | {
            image for found in compared for pair in found.confusions for image in pair.images
        }
        chosen = [sample for sample in self.data.samples if sample.name in wanted]
        found = {}
        for sample in chosen[:_MOST_THUMBNAILS]:
            picture = open_image(sample.image).convert("RGB")
            picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=80)
            encoded = base64.b64encode(stream.getvalue()).decode()
            found[sample.name] = f"data:image/jpeg;base64,{encoded}"
        return found

    def _digest(self) -> str:
        digest = hashlib.sha256()
        sizes = sizes_of(self.index)
        for fact in zip(self.truth.names, self.truth.labels.tolist(), sizes, strict=True):
            digest.update(json.dumps(fact).encode())
        return digest.hexdigest()


def spool(data: ImageSet, folder: Path, *, keep: Path | None, machine: str) -> Images:
    """Makes a set ready for workers; nothing is decoded.

    Args:
        data: The set.
        folder: The folder for the spooled set and for temporary logits.
        keep: The folder for logits that outlive the bench, so that an interrupted one continues; or
            None.
        machine: The other things that logits depend on: processor and versions of engines.

    Raises:
        DataError: The set is empty.
    """
    if not data.samples:
        raise DataError(f"'{data.name}' holds no images")
    index = write_spool(data.samples, folder)
    truth = Truth.of(data.samples, data.class_names)
    if keep is None:
        return Images(data, index, truth, LogitsStore(folder, of="", keeps=False))
    store = LogitsStore(keep, of=f"{digest_spool(index)} {machine}", keeps=True)
    return Images(data, index, truth, store)


def with_reference(
    images: Images,
    reference: Reference,
    *,
    threads: int,
    timeout_seconds: float,
    on_image: Callable[[int], None],
) -> Images:
    """Runs the reference over the images.

    Raises:
        UsageError: The reference is an artefact that gives probabilities.
        ModelError: The reference is an artefact that cannot be run.
        DataError: No image is readable.
    """
    if isinstance(reference, ModelReference):
        output = images.store.path_for("reference", reference.name, reference.sha256)
        if not reference.sha256:
            images.store.forget(output)
        logits = run_model(reference, images.index, images.n, output, on_image)
        return replace(images, reference=logits, preprocessing=reference.preprocessing)
    if isinstance(reference, StoredReference):
        return replace(images, reference=reference.logits, preprocessing=reference.preprocessing)
    metadata = read_metadata(reference.artifact)
    if metadata is not None and metadata.scores is Scores.PROBABILITIES:
        raise UsageError(
            f"'{reference.artifact}' gives probabilities, and a reference must give logits; "
            "convert it without --probabilities"
        )
    logits = _run_artifact(reference, images, threads, timeout_seconds, on_image)
    preprocessing = None if metadata is None else metadata.preprocessing
    return replace(images, reference=logits, preprocessing=preprocessing)


def _run_artifact(
    reference: ArtifactReference,
    images: Images,
    threads: int,
    timeout_seconds: float,
    on_image: Callable[[int], None],
) -> StoredLogits:
    (candidate,) = find_candidates([reference.artifact], [reference.target], timeout_seconds)
    trial = Trial.start(candidate, threads, timeout_seconds)
    try:
        trial.open()
        logits = trial.infer(images.index, images.store, None, on_image, is_reference=True)
    finally:
        trial.close()
    if logits is None:
        words = trial.failure.message if trial.failure else "; ".join(trial.notes)
        raise ModelError(f"the reference {candidate} cannot be run: {words}")
    return logits
