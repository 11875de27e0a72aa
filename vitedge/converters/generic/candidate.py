"""Calibration images and the choice among recipes, which the drafts of all formats share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Calibration
from vitedge.converters.converter import Draft
from vitedge.images.image_digests import smallest_digests
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.terminal.progress import Progress


@dataclass(frozen=True)
class Alternative:
    """One way to write an artefact.

    Attributes:
        draft: The artefact but for its metadata.
        description: The layers that were quantized, and how, in words per kind of layer.
        calibrated: Whether the calibration images took part.
        versions: The packages that made it.
    """

    draft: Draft
    description: Mapping[str, str]
    calibrated: bool
    versions: tuple[str, ...]


class CalibrationImages:
    """The calibration set as every quantizer wants it: batches of pixels, read one at a time.

    Args:
        images: The set.
        kind: ``images`` or ``synthetic``.
        preprocessing: The steps from an image to pixels.
        progress: Told how far things are.
    """

    def __init__(
        self, images: ImageSet, kind: str, preprocessing: Preprocessing, progress: Progress
    ) -> None:
        self._images, self._kind = images, kind
        self._preprocessing, self._progress = preprocessing, progress
        self._sha256: str | None = None

    def __len__(self) -> int:
        return len(self._images.samples)

    def batches(self, size: int) -> Iterator[npt.NDArray[np.float32]]:
        """float32 pixels ``(size, H, W, C)``; the last batch is filled up with its last image."""
        digest, batch = hashlib.sha256(), []
        for number, sample in enumerate(self._images.samples, start=1):
            self._progress(f"calibrating on {self._images.name}", number - 1, len(self))
            pixels = self._preprocessing(sample.image)
            digest.update(pixels.tobytes())
            batch.append(pixels)
            if number == len(self):
                self._sha256 = digest.hexdigest()
                batch += [pixels] * (size - len(batch))
            if len(batch) == size:
                yield np.stack(batch).astype(np.float32)
                batch = []

    def record(self) -> Calibration | None:
        """The record of the images in use, once all of them were read."""
        if self._sha256 is None:
            return None
        files = smallest_digests(self._images) if self._kind == "images" else ()
        return Calibration(self._kind, len(self), self._sha256, files)
