"""The reference for logits: a float32 model, run once over the images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.bench.workers.logits import LogitsWriter, StoredLogits
from vitedge.bench.workers.spool import read_spool
from vitedge.errors import DataError
from vitedge.images.preprocess import Preprocessing
from vitedge.network.network import Network
from vitedge.network.saved import described
from vitedge.network.tasks import Task
from vitedge.quantize.cores import forward_each
from vitedge.targets.target import Target

# Each core computes an image; that of a ViT-B/16 takes 14 MB for its attention alone.
_BATCH = 8


@dataclass(frozen=True)
class ModelReference:
    """A model in this process.

    Attributes:
        name: The name for reports.
        preprocessing: Its images.
        logits: uint8 pixels ``(N, H, W, C)`` to float32 logits ``(N, classes)``.
        labels: Name of each class, or empty.
        sha256: Digest of what it computes, by which an interrupted bench finds its logits again;
            empty means that they are computed anew.
        task: The meaning of its outputs.
    """

    name: str
    preprocessing: Preprocessing
    logits: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    labels: tuple[str, ...] = ()
    sha256: str = ""
    task: Task = Task.CLASSES

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by which the labels of images are matched; of other tasks they name numbers."""
        return self.labels if self.task.has_logits and len(self.labels) > 1 else ()


@dataclass(frozen=True)
class ArtifactReference:
    """An artefact with metadata, run by a worker of its own.

    Attributes:
        artifact: The file, best a float32 one.
        target: The target that runs it.
    """

    artifact: Path
    target: Target


@dataclass(frozen=True)
class StoredReference:
    """A model that ran elsewhere.

    Attributes:
        name: The name for reports.
        preprocessing: Its images, or None when it did not say.
        logits: One row for each image of the set.
    """

    name: str
    preprocessing: Preprocessing | None
    logits: StoredLogits


Reference: TypeAlias = ModelReference | ArtifactReference | StoredReference


def reference_from_network(network: Network, name: str) -> ModelReference:
    """The canonical form, computed in NumPy, as the reference; an image on each core."""
    description, arrays = described(network)
    digest = hashlib.sha256(json.dumps(description).encode())
    for array in arrays.values():
        digest.update(array.tobytes())
    return ModelReference(
        name,
        network.preprocessing,
        partial(forward_each, network),
        network.labels,
        digest.hexdigest(),
        network.task,
    )


def run_model(
    reference: ModelReference, images: Path, n: int, output: Path, on_image: Callable[[int], None]
) -> StoredLogits:
    """Computes the logits of a spooled set; unreadable images get zeros.

    Args:
        reference: The model.
        images: Index that ``write_spool`` wrote.
        n: Images in it.
        output: The folder for the rows; rows that are there already are not computed again.
        on_image: Told how many images are done.

    Raises:
        DataError: No image can be read.
        VitedgeError: The disk refuses.
    """
    preprocessing = reference.preprocessing
    black = np.zeros((1, *preprocessing.size, preprocessing.channels), np.uint8)
    classes = reference.logits(black)[0].size
    with LogitsWriter(output, classes) as table:
        on_image(table.rows)
        for positions, pixels in _batches(images, preprocessing, table):
            table.write(positions, reference.logits(pixels).reshape(len(positions), -1))
            on_image(table.rows)
        if len(table.unreadable) == n:
            raise DataError(f"none of the {n} images can be read")
        return table.finish(n)


def _batches(
    images: Path, preprocessing: Preprocessing, table: LogitsWriter
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    positions: list[int] = []
    stack: list[npt.NDArray[np.uint8]] = []
    start = table.rows
    for position, image in enumerate(read_spool(images, start), start):
        try:
            stack.append(preprocessing(image))
        except DataError as error:
            table.leave_out(position, str(error))
            continue
        positions.append(position)
        if len(stack) == _BATCH:
            yield positions, np.stack(stack)
            positions, stack = [], []
    if stack:
        yield positions, np.stack(stack)
