"""Three things at once: a frame is decoded, the one before prepared, the one before that inferred.

Two threads run ahead of whoever asks, one item each. Pillow and NumPy release the interpreter
lock while they work, so do the runtimes.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.images.preprocess import ImageLike, Preprocessing
from vitedge.stream.mailbox import Closed, Mailbox
from vitedge.stream.sources import Frames

# A camera gives a frame within this time; a source that blocks for longer is left to end by itself.
_SECONDS_TO_END = 2.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame that is ready to be inferred.

    Attributes:
        image: The image as the source gave it.
        pixels: uint8 ``(H, W, C)``, the model's input.
        number: The number of the frame, counted from 0 as the source gave them; frames that a newer
            one replaced are missing.
    """

    image: ImageLike
    pixels: npt.NDArray[np.uint8]
    number: int


class _Decoded(NamedTuple):
    """A frame by its number, as the source gave it and as it is prepared from."""

    number: int
    image: ImageLike
    picture: ImageLike


def prepared_images(frames: Frames, preprocessing: Preprocessing) -> Generator[Prepared]:
    """Decodes and prepares frames in threads that run ahead.

    Args:
        frames: The source; closed when it ends, or when the iterator is closed.
        preprocessing: The steps from an image to pixels.

    Raises:
        DataError: An image cannot be decoded; those before it were given out.
    """
    decoded: Mailbox[_Decoded] = Mailbox(newest=frames.live)
    ready: Mailbox[Prepared] = Mailbox(newest=frames.live)
    threads = (
        threading.Thread(
            target=_decode,
            args=(frames, decoded, preprocessing),
            name="vitedge-decode",
            daemon=True,
        ),
        threading.Thread(
            target=_prepare,
            args=(decoded, ready, preprocessing),
            name="vitedge-prepare",
            daemon=True,
        ),
    )
    for thread in threads:
        thread.start()
    try:
        while True:
            try:
                yield ready.take()
            except Closed:
                return
    finally:
        decoded.close()
        ready.close()
        for thread in threads:
            thread.join(_SECONDS_TO_END)


def _decode(frames: Frames, decoded: Mailbox[_Decoded], preprocessing: Preprocessing) -> None:
    try:
        for number, image in enumerate(frames):
            # Arrays are pixels already; files and bytes are decoded here.
            picture = image if isinstance(image, np.ndarray) else preprocessing.decoded(image)
            decoded.put(_Decoded(number, image, picture))
    except Closed:
        pass
    except BaseException as error:  # whoever iterates gets it, whatever it is
        decoded.close(error)
    finally:
        frames.close()
        decoded.close()


def _prepare(
    decoded: Mailbox[_Decoded],
    ready: Mailbox[Prepared],
    preprocessing: Preprocessing,
) -> None:
    try:
        while True:
            each = decoded.take()
            ready.put(Prepared(each.image, preprocessing(each.picture), each.number))
    except Closed:
        ready.close()
    except BaseException as error:  # whoever iterates gets it, whatever it is
        ready.close(error)
    finally:
        decoded.close()
