"""An artefact is published only after its own runtime gave the outputs of its reference."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import (
    Metadata,
    Parity,
    files_of,
    format_of,
    read_metadata,
    read_texts,
)
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.errors import ConversionError, ModelError, ParityError
from vitedge.files.staging import publish, staging
from vitedge.files.temporary import temporary_folder
from vitedge.files.weights_digest import WEIGHTS_KEY, file_sha256
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

OnRefusal: TypeAlias = Callable[[Path, ConversionError], None]
"""Told of an artefact that cannot be made, and why."""

OnWritten: TypeAlias = Callable[[Written], None]
"""Told of an artefact as soon as it is published."""


def unheard(written: Written) -> None:
    """The callback of those who wait for all artefacts."""


@contextmanager
def refusals_to(told: OnRefusal | None, path: Path) -> Iterator[None]:
    """Tells that an artefact cannot be made instead of giving up; gives up when nobody listens."""
    try:
        yield
    except ConversionError as error:
        if told is None:
            raise
        told(path, error)


_SAME_AGAIN = 1e-3
"""Largest change of an output from one run to the next, of the largest output: threads add up in
another order, which changes float32 by 1e-6."""


@dataclass(frozen=True)
class Reference:
    """The reference that an artefact is compared with.

    Attributes:
        pixels: uint8 ``(N, H, W, C)``.
        outputs: The outputs of the float32 model for these images, ``(N, ...)``, which the artefact
            is to give first: after the softmax if it gives probabilities.
        images: The images in words.
        chooses: Whether the last digit of a number may turn a choice on the way, so that an image
            comes out otherwise although the artefact is right.
    """

    pixels: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.float32]
    images: str = ""
    chooses: bool = False

    def judged(self, made: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """The images that an artefact's outputs are judged by: all, or the nearer half.

        A wrong graph is wrong for every image; a choice turns for a few.
        """
        count = len(made)
        if not self.chooses:
            return np.arange(count)
        apart = np.nan_to_num(np.square(made - self.outputs), nan=np.inf)
        return np.argsort(apart.reshape(count, -1).sum(axis=1))[: -(-count // 2)]


def artifact_path(
    folder: Path, source: Path, precision: Precision, target: Format, name: str | None = None
) -> Path:
    """The path of an artefact: ``model.keras`` gives ``model.int8.tflite``, or another name."""
    return folder / f"{name or source.stem}.{precision}{target.suffix}"


def write_checked(draft: Draft, path: Path, metadata: Metadata, reference: Reference) -> Written:
    """Saves a draft, runs it, compares it with its reference, and publishes it.

    Args:
        draft: The artefact but for its metadata.
        path: The path of the artefact.
        metadata: All but its parity, which is measured here.
        reference: The reference outputs.

    Raises:
        ParityError: The artefact computes something else; nothing is published.
        ConversionError: The format cannot hold it, or the disk lost a part of it.
    """
    target = metadata.format
    with staging(path.parent) as folder:
        staged = folder / path.name
        _save(draft, staged, metadata)
        made = _outputs(staged, target, reference.pixels)
        parity = Parity.of(made, reference.outputs, metadata.task, metadata.scores)
        check_parity(_judged(made, metadata, reference), metadata.precision, path.name)
        metadata = replace(metadata, parity=parity)
        _save_checked(draft, staged, metadata, reference.pixels[:1])
        publish_artifact(staged, path.parent)
    return Written(path, metadata, compared_on=reference.images)


def sqnr_db(draft: Draft, metadata: Metadata, reference: Reference) -> float:
    """The signal-to-noise ratio that a draft's outputs have in its own runtime.

    Args:
        draft: The artefact but for its metadata.
        metadata: Its metadata, but for the parity.
        reference: The reference outputs.
    """
    with temporary_folder() as folder:
        path = folder / f"candidate{metadata.format.suffix}"
        draft.save(path, metadata)
        made = _outputs(path, metadata.format, reference.pixels)
    found = _judged(made, metadata, reference).sqnr_db
    return math.inf if found is None else found


def _judged(made: npt.NDArray[np.float32], metadata: Metadata, reference: Reference) -> Parity:
    """The parity of the images that outputs are judged by."""
    judged = reference.judged(made)
    return Parity.of(made[judged], reference.outputs[judged], metadata.task, metadata.scores)


def publish_artifact(staged: Path, destination: Path) -> None:
    """Moves a complete artefact, all of its files, out of a staging folder.

    Whenever this is interrupted, what lies at the destination is the old artefact, the new one, or
    files that ``read_metadata`` refuses as not belonging together.

    Args:
        staged: Its main file.
        destination: The folder that it goes to.
    """
    made, path = files_of(staged), destination / staged.name
    if len(made) > 1 and all(part.is_file() for part in files_of(path)):
        _bind_published(path, staged.parent)
    # The main file comes last: whoever finds it finds all of the artefact.
    publish(reversed(made), destination)
    for old in set(files_of(path)) - {path.with_name(part.name) for part in made}:
        old.unlink()  # weights of the artefact that was overwritten


def _save(draft: Draft, path: Path, metadata: Metadata) -> None:
    draft.save(path, metadata)
    for weights in files_of(path)[1:]:
        path.write_bytes(_naming(path, weights))


def _naming(path: Path, weights: Path) -> bytes:
    """The content of a main file, which names the digest of its weights now."""
    return format_of(path).record.name_weights(path.read_bytes(), file_sha256(weights))


def _bind_published(path: Path, staging_folder: Path) -> None:
    """Binds an artefact that names no weights, before other weights come to lie beside it."""
    try:
        if len(files_of(path)) < 2 or WEIGHTS_KEY in read_texts(path):
            return
        content = _naming(path, files_of(path)[1])
    except ModelError:
        return  # it is damaged and could not be loaded anyway
    old = staging_folder / f"{path.name}.old"
    old.write_bytes(content)
    with old.open("rb") as stream:
        os.fsync(stream.fileno())
    old.replace(path)


def _save_checked(
    draft: Draft, staged: Path, metadata: Metadata, pixels: npt.NDArray[np.uint8]
) -> None:
    """Saves again, now that the parity is known, and makes sure of what lies on the disk."""
    before = _outputs(staged, metadata.format, pixels)
    for part in files_of(staged):
        part.unlink()  # a runtime may still have the old one mapped; never write into it
    _save(draft, staged, metadata)
    same = np.array_equal(before, _outputs(staged, metadata.format, pixels))
    if not same or read_metadata(staged) != metadata:
        raise ConversionError(f"'{staged.name}' did not survive being written; is the disk full?")


def check_parity(parity: Parity, precision: Precision, name: str) -> None:
    """Refuses an artefact whose outputs are too far from the reference.

    Raises:
        ParityError: The outputs are too far off.
    """
    tolerance = precision.row.tolerance
    enough = parity.sqnr_db is None or parity.sqnr_db >= tolerance.sqnr_db
    if enough and parity.relative_difference <= tolerance.relative_difference:
        return
    raise ParityError(
        f"{name} computes something else than its source: {parity.sqnr_db or 0:.1f} dB (needs "
        f"{tolerance.sqnr_db:g}), largest difference {parity.relative_difference:.2g} of the "
        f"outputs' range (allowed {tolerance.relative_difference:g}); nothing was written"
    )


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """The versions of Python, vitedge and some packages, for the metadata."""
    versions = {"python": platform.python_version()}
    for package in ("vitedge", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a folder that was never installed
            versions[package] = "not installed"
    return versions


def _outputs(path: Path, target: Format, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The outputs of an artefact; its first batch is run twice.

    OpenVINO 2026.4 computed SigLIP's pooling in half precision wrong from the second time on.

    Raises:
        ParityError: The second time gave something else.
    """
    runtime_target = target.default_target
    session = runtime_for(runtime_target).open(path, runtime_target.device)
    try:
        first = run_batches(session, pixels[: session.input_shape[0]])
        found = run_batches(session, pixels)
    finally:
        session.close()
    change = float(np.abs(found[: len(first)] - first).max(initial=0.0))
    if change > _SAME_AGAIN * float(np.abs(first).max(initial=0.0)):
        raise ParityError(
            f"{path.name} gives other outputs the second time that it runs (they change by "
            f"{change:.2g}), which is a fault of its runtime; nothing was written"
        )
    return found
