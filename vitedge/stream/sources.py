"""Sources of frames: a camera by its number, a folder, or any iterable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias, Union

from vitedge.errors import DataError, UsageError
from vitedge.images.image_sets import IMAGE_SUFFIXES
from vitedge.images.preprocess import ImageLike
from vitedge.stream.cameras import open_camera

Source: TypeAlias = Union[int, str, "os.PathLike[str]", Iterable[ImageLike]]
"""The number of a camera, a folder of images, or anything that yields images."""


class Frames:
    """An open source of images; iterate it once, then close it.

    Args:
        images: The images of the source.
        live: Whether a frame that nobody took in time is worth nothing: the newest wins.
        close: Frees the device.
    """

    def __init__(
        self, images: Iterable[ImageLike], *, live: bool, close: Callable[[], None] = lambda: None
    ) -> None:
        self._images, self._close = images, close
        self.live = live

    def __iter__(self) -> Iterator[ImageLike]:
        return iter(self._images)

    def close(self) -> None:
        """Frees the device behind it."""
        self._close()


def open_source(source: Source, *, newest: bool | None = None) -> Frames:
    """Opens whatever images come from.

    Args:
        source: See ``Source``. A camera is taken through picamera2 where that is installed, else
            through OpenCV. Images of a folder come in the order of their names.
        newest: Whether frames that come too fast are skipped; None means those of cameras only.

    Raises:
        DataError: There is no such folder or camera, or the folder holds no images.
        UsageError: The source is none of these.
        UnavailableError: Neither picamera2 nor OpenCV is installed.
    """
    if isinstance(source, int) and not isinstance(source, bool):
        images, close = open_camera(source)
        return Frames(images, live=newest is not False, close=close)
    if isinstance(source, str | os.PathLike):
        return Frames(_images_in(Path(source)), live=bool(newest))
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise UsageError(
            f"a {type(source).__name__} is not a source of images: give a camera's number, a "
            "folder or an iterable of images"
        )
    return Frames(source, live=bool(newest))


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}' to take images from")
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    if not images:
        raise DataError(f"there is no image in '{folder}'")
    return images
