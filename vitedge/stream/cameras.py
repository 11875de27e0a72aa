"""Cameras: picamera2 where it is installed, which is on a Raspberry Pi, else OpenCV."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError, UnavailableError, first_line

Frame: TypeAlias = npt.NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""

# Twice what a ViT sees, so that the picture is good enough to look at, and quick to capture.
_SIZE = (640, 480)


def open_camera(number: int) -> tuple[Iterable[Frame], Callable[[], None]]:
    """Starts a camera.

    Args:
        number: 0 is the first.

    Returns:
        Its frames, and what frees it.

    Raises:
        DataError: There is no such camera, or another program has it.
        UnavailableError: Neither picamera2 nor OpenCV is installed.
    """
    for module, opener in (("picamera2", _open_picamera), ("cv2", _open_opencv)):
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        return opener(library, number)
    raise UnavailableError(
        "neither picamera2 nor OpenCV is installed, so no camera can be read",
        "On a Raspberry Pi run: sudo apt install python3-picamera2, and make the environment with "
        "--system-site-packages; elsewhere run: pip install 'vitedge[camera]'",
    )


def _open_picamera(library: Any, number: int) -> tuple[Iterable[Frame], Callable[[], None]]:
    try:
        camera = library.Picamera2(number)
        # libcamera names formats from the last byte to the first: this one is R, G, B in memory.
        shape = {"size": _SIZE, "format": "BGR888"}
        camera.configure(camera.create_video_configuration(main=shape))
        camera.start()
    except (RuntimeError, IndexError) as error:
        raise DataError(f"camera {number} cannot be opened: {first_line(error)}") from error

    def frames() -> Iterator[Frame]:
        while True:
            yield camera.capture_array("main")

    return frames(), camera.close


def _open_opencv(library: Any, number: int) -> tuple[Iterable[Frame], Callable[[], None]]:
    camera = library.VideoCapture(number)
    if not camera.isOpened():
        camera.release()
        raise DataError(f"camera {number} cannot be opened: is it plugged in, and not in use?")
    camera.set(library.CAP_PROP_FRAME_WIDTH, _SIZE[0])
    camera.set(library.CAP_PROP_FRAME_HEIGHT, _SIZE[1])

    def frames() -> Iterator[Frame]:
        while True:
            read, frame = camera.read()
            if not read:
                raise DataError(f"camera {number} gives no more frames: was it unplugged?")
            yield library.cvtColor(frame, library.COLOR_BGR2RGB)

    return frames(), camera.release
