"""What logits are compared with: a float32 model, run once over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.bench.spool import read_spool
from vitedge.errors import DataError
from vitedge.preprocess import Preprocessing
from vitedge.spec import Target
from vitedge.vit import ViT, forward

# The NumPy forward gains nothing past this, and its attention needs 14 MB an image at 197 tokens.
_BATCH = 8


@dataclass(frozen=True)
class ModelReference:
    """A model in this process.

    Attributes:
        name: What to call it.
        preprocessing: Its images.
        logits: uint8 pixels ``(N, H, W, C)`` to float32 logits ``(N, classes)``.
    """

    name: str
    preprocessing: Preprocessing
    logits: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ArtifactReference:
    """An artefact with metadata, run by a worker of its own.

    Attributes:
        artifact: The file, best a float32 one.
        target: Where to run it.
    """

    artifact: Path
    target: Target


Reference: TypeAlias = ModelReference | ArtifactReference


def reference_from_vit(vit: ViT, name: str) -> ModelReference:
    """The canonical form's own forward pass as the reference; needs SciPy."""
    return ModelReference(name, vit.preprocessing, partial(forward, vit))


def run_model(
    reference: ModelReference, images: Path, n: int, output: Path, on_image: Callable[[int], None]
) -> npt.NDArray[np.float32]:
    """Computes the logits of a spooled set into a mapped file; unreadable images get zeros.

    Args:
        reference: The model.
        images: Index that ``write_spool`` wrote.
        n: Images in it.
        output: The ``.npy`` to write.
        on_image: Told how many images are done.

    Returns:
        float32 ``(n, classes)``, mapped.

    Raises:
        DataError: No image can be read.
    """
    table: npt.NDArray[np.float32] | None = None
    for positions, pixels in _batches(images, reference.preprocessing):
        logits = reference.logits(pixels)
        if table is None:
            table = _mapped(output, (n, logits.shape[1]))
        table[positions] = logits
        on_image(positions[-1] + 1)
    if table is None:
        raise DataError(f"none of the {n} images can be read")
    return table


def _batches(
    images: Path, preprocessing: Preprocessing
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    positions: list[int] = []
    stack: list[npt.NDArray[np.uint8]] = []
    for position, image in enumerate(read_spool(images)):
        try:
            stack.append(preprocessing(image))
        except DataError:  # each row's own worker lists the unreadable ones
            continue
        positions.append(position)
        if len(stack) == _BATCH:
            yield positions, np.stack(stack)
            positions, stack = [], []
    if stack:
        yield positions, np.stack(stack)


def _mapped(path: Path, shape: tuple[int, int]) -> Any:
    return np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)
