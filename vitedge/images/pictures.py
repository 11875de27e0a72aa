"""Pictures of any accepted form, decoded: the one place where Pillow opens a file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.files.limits import OPTION, most_pixels, was_raised

if TYPE_CHECKING:
    from PIL import Image

ImageLike: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, BinaryIO, npt.NDArray[np.uint8], "Image.Image"
]
"""A path, encoded bytes or an open file of them, RGB pixels ``(H, W, 3)`` or grey ones ``(H, W)``,
uint8 0..255, or a Pillow image. Arrays of other libraries are taken as NumPy's. Of four channels,
as cameras give them, the fourth is left out: it is the opacity, or holds nothing."""

PICTURE_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000"),
    *("ICO", "TGA", "PCX", "SGI", "QOI"),
    *("HEIF", "JXL"),  # of the packages pillow-heif and pillow-jxl-plugin, for those who use them
)
"""Pillow's names of the formats that are read; a format that Pillow lacks here is left out.

None of them runs a program, as EPS and WMF do, or is a container whose reader somebody registers,
as GRIB, HDF5 and BUFR are.
"""

# What Pillow's decoders raise on damaged files, depending on where the damage is.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)

# Pictures of 16 bits are converted in bands, which takes little memory.
_BAND_PIXELS = 1 << 20


def open_image(image: ImageLike, *, least: int | None = None) -> Image.Image:
    """Decodes an image of any accepted form, upright.

    Args:
        image: The image.
        least: Pixels of each side that are enough. A JPEG file is then decoded at the smallest of
            1/2, 1/4 and 1/8 of its size that has them: Pillow's draft mode, which leaves out
            frequencies (libjpeg's scaled inverse DCT).

    Raises:
        DataError: The file or bytes are not an image that Pillow reads, or an array has another
            dtype or shape than ``ImageLike`` names.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        return Image.fromarray(checked_pixels(image))
    if hasattr(image, "__array__") and not isinstance(image, Image.Image):
        return Image.fromarray(checked_pixels(np.asarray(image)))
    if isinstance(image, bytes | bytearray | memoryview):
        image = bytes(image)
    elif hasattr(image, "read"):
        image = _read(image)
    if isinstance(image, Image.Image):
        name = "the picture"
    elif isinstance(image, bytes):
        name = f"{len(image)} bytes"
    elif isinstance(image, str | os.PathLike):
        name = f"'{os.fspath(image)}'"
    else:
        raise DataError(
            f"a {type(image).__name__} is not an image: give a path, bytes, a file, an array or a "
            "Pillow image"
        )
    try:
        if isinstance(image, Image.Image):
            return _decoded(image, name)
        # Pillow itself leaves files open that may have further frames.
        with io.BytesIO(image) if isinstance(image, bytes) else Path(image).open("rb") as stream:
            return _decoded(_identified(stream), name, least)
    except FileNotFoundError as error:
        raise DataError(f"there is no image {name}") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name} is too large a picture ({error}); if you trust it, allow more memory with "
            f"{OPTION}"
        ) from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).partition("<")[0].split())
        raise DataError(f"{name} is not an image that Pillow can read ({reason})") from error


def _read(file: Any) -> bytes:
    """The content of an open file from here on.

    Raises:
        DataError: The file was opened as text, or cannot be read.
    """
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the image from an open file ({error})") from error
    if not isinstance(content, bytes):
        raise DataError("the file of an image was opened as text: open it with mode 'rb'")
    return content


def check_image(image: ImageLike) -> None:
    """Decodes an image at as little cost as its format allows, to see whether it can be.

    Raises:
        DataError: ``open_image`` refuses the image.
    """
    if isinstance(image, str | os.PathLike):
        from PIL import Image

        try:
            with Path(image).open("rb") as stream:
                picture = _identified(stream)
                if picture.format == "JPEG":
                    # Decoding at an eighth still reads the whole file, and so finds where it ends.
                    picture.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
                    picture.load()
                    return
        except (*_UNREADABLE, Image.DecompressionBombError):
            pass  # said in one way, below
    open_image(image)


def _identified(source: BinaryIO) -> Image.Image:
    """The image as Pillow's ``Image.open`` returns it, of formats that only decode pixels.

    Pillow also knows formats that are programs (it hands PostScript to Ghostscript, whatever the
    file is called) or that other programs read.

    Raises:
        OSError: The file is of no such format.
    """
    from PIL import Image, UnidentifiedImageError

    if was_raised():  # Pillow refuses pictures of twice this number of pixels
        Image.MAX_IMAGE_PIXELS = most_pixels() // 2
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        known = [name for name in PICTURE_FORMATS if name in Image.OPEN]
        try:
            return Image.open(source, formats=known)
        except UnidentifiedImageError:
            continue
    raise UnidentifiedImageError("it is of none of the formats " + ", ".join(PICTURE_FORMATS))


def _decoded(picture: Image.Image, name: str, least: int | None = None) -> Image.Image:
    from PIL import ImageOps

    width, height = picture.size
    if width * height > most_pixels():
        raise DataError(
            f"{name} is {width} x {height}, and pictures may have {most_pixels():,} pixels; if "
            f"you trust it, allow more memory with {OPTION}"
        )
    if least is not None:
        picture.draft(None, (least, least))  # of other formats than JPEG it does nothing
    picture.load()
    if not width or not height:
        raise DataError(f"{name} has no pixels: it is {width} x {height}")
    return ImageOps.exif_transpose(_eight_bits(picture, name))


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Grey pictures of 16 bits, scaled; Pillow itself would cut off whatever lies above 255."""
    from PIL import Image

    if picture.mode == "F":
        raise DataError(f"{name} holds floating-point pixels, whose range is unknown")
    if picture.mode == "LAB":
        raise DataError(f"{name} is in CIE Lab colours, which Pillow does not convert; save as RGB")
    if not picture.mode.startswith("I"):
        return picture
    narrow = np.empty((picture.height, picture.width), np.uint8)
    step = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, step):  # in bands: the whole may be large
        bottom = min(top + step, picture.height)
        wide = np.asarray(picture.crop((0, top, picture.width, bottom))).astype(np.int64)
        narrow[top:bottom] = wide.clip(0, 65535) // 257
    return Image.fromarray(narrow)


def checked_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pixels ``(H, W, 3)`` or ``(H, W)`` as Pillow takes them; one channel loses its axis.

    Raises:
        DataError: The pixels have another dtype or shape.
    """
    if pixels.dtype != np.uint8:
        words = f"an image array must be uint8 with values 0..255, not {pixels.dtype}"
        if pixels.dtype.kind == "f" and pixels.size:
            low, high = float(pixels.min()), float(pixels.max())
            factor = "255 * " if low >= -0.01 and high <= 1.01 else ""
            words += f" from {low:.3g} to {high:.3g}"
            if low >= -0.01 and high <= 255.5:
                words += f"; give ({factor}pixels).round().astype('uint8')"
        raise DataError(words)
    if not pixels.size:
        raise DataError(f"an image array of shape {pixels.shape} has no pixels")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return pixels[:, :, 0]
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3):
        return pixels
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return np.ascontiguousarray(pixels[:, :, :3])
    words = f"an image array must have shape (H, W, 3) or (H, W), not {pixels.shape}"
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
        words += "; channels stand last here: give pixels.transpose(1, 2, 0)"
    if pixels.ndim == 4:
        words += "; several images are a list: classify_batch(list(pixels))"
    raise DataError(words)
