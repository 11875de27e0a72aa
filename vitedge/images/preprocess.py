"""Turns any image into the raw pixels that an artefact takes.

Normalisation (mean, std) is folded into the artefact, so on a device preprocessing is Pillow's
decode, resize and crop, as torchvision and timm do them at evaluation, and nothing else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.files.json_values import numbers, text, whole, wholes
from vitedge.images.interpolation import Interpolation
from vitedge.images.pictures import ImageLike, checked_pixels, open_image

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ImageLike", "Preprocessing", "open_image"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A picture may be any shape, but resizing its shorter side must not take gigabytes for the longer.
_MOST_PIXELS = 100_000_000

_LONGEST_SIDE = 65_535  # of JPEG

# So many times the resized size remains: Pillow's `thumbnail` does the same, since 2 is near to a
# resize of the whole image. What 1, 2 and 3 cost and save is in benchmarks/README.md.
_DRAFT_MARGIN = 2

_FOUR = 4
_COLOURS = {1: "grey", 3: "RGB", _FOUR: "RGB and one channel more"}
_MODES = {1: "L", 3: "RGB", _FOUR: "RGBA"}


def demand_channels(channels: int) -> None:
    """Refuses pictures of other colours.

    Raises:
        ValueError: The number of channels is not 1, 3 or 4.
    """
    if channels not in _MODES:
        raise ValueError(
            f"channels must be 1 (grey), 3 (RGB) or 4 (RGB and one more), not {channels}"
        )


@dataclass(frozen=True)
class Preprocessing:
    """Turns an image into a model's input.

    Attributes:
        size: Height and width of the input in pixels.
        channels: 3 for RGB, 1 for grey, 4 for RGB and one more.
        resize: Length in pixels of the shorter side before a centre crop to ``size``, or the height
            and width that the whole image is stretched to before that crop; None stretches the
            whole image to ``size``, and crops nothing.
        interpolation: Pillow filter of the resize.
        mean: Per-channel mean of pixels scaled to 0..1.
        std: Per-channel standard deviation of pixels scaled to 0..1.
        draft: Decode JPEG files at 1/2, 1/4 or 1/8 of their size where twice the resized size
            remains: Pillow's draft mode. It changes pixels a little; what that costs is in
            ``load``. Metadata do not hold it: whoever loads an artefact chooses.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation = Interpolation.BICUBIC
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    draft: bool = False

    def __post_init__(self) -> None:
        demand_channels(self.channels)
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"mean {self.mean} and std {self.std} need one value for each of "
                f"{self.channels} channels"
            )
        if not all(value > 0 and math.isfinite(value) for value in self.std):
            raise ValueError(f"std must be positive, not {self.std}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean must be finite, not {self.mean}")
        if min(self.size) < 1:
            raise ValueError(f"size must be positive, not {self.size}")
        if self.size[0] * self.size[1] > _MOST_PIXELS or max(self.size) > _LONGEST_SIDE:
            raise ValueError(f"a size of {self.size} is over {_MOST_PIXELS:,} pixels")
        least = _pair(self.size if self.resize is None else self.resize)
        if any(side < kept for side, kept in zip(least, self.size, strict=True)):
            raise ValueError(f"resize to {self.resize} leaves too little to crop {self.size} from")
        if least[0] * least[1] > _MOST_PIXELS or max(least) > _LONGEST_SIDE:
            raise ValueError(f"a resize to {self.resize} is over {_MOST_PIXELS:,} pixels")

    def __call__(self, image: ImageLike) -> npt.NDArray[np.uint8]:
        """Decodes, resizes and crops one image.

        An EXIF orientation is applied first, so a photo from a phone stands upright.

        Returns:
            uint8 pixels 0..255, shape ``(H, W, C)``.

        Raises:
            DataError: The image cannot be decoded or has an unknown form.
        """
        from PIL import Image

        shape = (*self.size, self.channels)
        if self.channels == _FOUR:
            bands = _four_bands(image)
            return np.stack([self._fitted(Image.fromarray(band)) for band in bands], axis=-1)
        if isinstance(image, np.ndarray) and self.resize is None and image.shape == shape:
            return checked_pixels(image).reshape(shape).copy()  # nothing to do
        picture = self.decoded(image)
        if picture.mode != _MODES[self.channels]:
            picture = picture.convert(_MODES[self.channels])
        return self._fitted(picture).reshape(shape)

    def decoded(self, image: ImageLike) -> Image.Image:
        """Decodes an image, upright, at the scale that ``draft`` allows.

        Raises:
            DataError: The image cannot be decoded or has an unknown form.
        """
        if not self.draft:
            return open_image(image)
        return open_image(image, least=_DRAFT_MARGIN * max(_pair(self.resize or self.size)))

    def _fitted(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """Resizes and crops a picture."""
        from PIL import Image

        resized = self._resized((picture.height, picture.width))
        if resized[0] * resized[1] > _MOST_PIXELS:
            raise DataError(
                f"a picture of {picture.width} x {picture.height} is too long and thin to resize "
                f"to {self.resize} pixels"
            )
        if picture.size != resized[::-1]:
            resample = Image.Resampling[self.interpolation.name]
            picture = picture.resize(resized[::-1], resample)
        if resized != self.size:
            (top, rows), (left, columns) = self._kept(resized)
            picture = picture.crop((left, top, left + columns, top + rows))
        return np.asarray(picture, np.uint8)

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a picture of this height and width before the crop.

        As torchvision's ``Resize`` does, which truncates the length of the longer side.
        """
        height, width = size
        match self.resize:
            case None:
                return self.size
            case int() as shorter if width <= height:
                return int(shorter * height / width), shorter
            case int() as shorter:
                return shorter, int(shorter * width / height)
            case _:
                return self.resize

    def _kept(self, resized: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """First row and number of rows that the crop keeps, and the same of columns."""
        # torchvision's CenterCrop rounds half to even, so Python's round is the same.
        top, left = (
            round((side - kept) / 2.0) for side, kept in zip(resized, self.size, strict=True)
        )
        return (top, self.size[0]), (left, self.size[1])

    def seen(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part of an image that the model sees, in the image's whole pixels.

        Args:
            size: Height and width of the image.

        Returns:
            Top, left, height and width of the part.
        """
        resized = self._resized(size)
        edges = []
        for whole_side, side, (first, kept) in zip(size, resized, self._kept(resized), strict=True):
            start, end = (round(place * whole_side / side) for place in (first, first + kept))
            edges.append((start, max(end - start, 1)))
        (top, rows), (left, columns) = edges
        return top, left, rows, columns

    @property
    def words(self) -> str:
        """Describes for people how an image becomes pixels."""
        height, width = self.size
        pixels = f"{width} x {height} {_COLOURS[self.channels]}"
        match self.resize:
            case None:
                return f"{pixels}: stretched ({self.interpolation})"
            case int():
                how = f"shorter side to {self.resize}"
            case rows, columns:
                how = f"stretched to {columns} x {rows}"
        return f"{pixels}: {how} ({self.interpolation}), centre crop"

    def at_size(self, size: tuple[int, int]) -> Preprocessing:
        """The same for images of another height and width: the crop keeps its share."""
        match self.resize:
            case None:
                resize: int | tuple[int, int] | None = None
            case int():
                resize = round(self.resize * max(size) / max(self.size))
            case rows, columns:
                resize = (
                    round(rows * size[0] / self.size[0]),
                    round(columns * size[1] / self.size[1]),
                )
        return replace(self, size=size, resize=resize)

    def makes_the_pixels_of(self, other: Preprocessing) -> bool:
        """Whether every image becomes the same pixels; mean and standard deviation come later."""
        ours, theirs = (
            (each.size, each.channels, each.resize, each.interpolation, each.draft)
            for each in (self, other)
        )
        return ours == theirs

    def batch(self, images: Iterable[ImageLike]) -> npt.NDArray[np.uint8]:
        """Preprocesses several images: uint8 pixels of shape ``(N, H, W, C)``.

        Raises:
            DataError: ``images`` is one image and not a list, or an image cannot be decoded.
        """
        is_one = isinstance(images, str | bytes | os.PathLike) or hasattr(images, "read")
        array = np.ndim(images) if hasattr(images, "__array__") else None  # type: ignore[arg-type]
        if is_one or (array is not None and array < 4) or not isinstance(images, Iterable):
            raise DataError("several images are a list, and this is one: put it in brackets, [...]")
        height, width = self.size
        prepared = [self(image) for image in images]
        if not prepared:
            return np.zeros((0, height, width, self.channels), np.uint8)
        return np.stack(prepared)

    def normalize(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scales pixels 0..255 to what the network was trained on: ``(x / 255 - mean) / std``."""
        mean = np.asarray(self.mean, np.float32)
        std = np.asarray(self.std, np.float32)
        return ((pixels.astype(np.float32) / np.float32(255) - mean) / std).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form that ``from_dict`` reads back, of all but ``draft``."""
        return {name: value for name, value in asdict(self).items() if name != "draft"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what ``to_dict`` wrote.

        Raises:
            ValueError: A value is missing or out of range.
        """
        try:
            height, width = wholes(values, "size", least=1)
            return cls(
                size=(height, width),
                channels=whole(values, "channels"),
                resize=_resize_of(values),
                interpolation=Interpolation(text(values, "interpolation")),
                mean=numbers(values, "mean"),
                std=numbers(values, "std"),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"preprocessing is incomplete or malformed: {error}") from error


def _four_bands(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Four channels of an array or a picture, ``(4, H, W)``, none of them made up.

    Each is resized alone: Pillow takes a fourth one for opacity, and multiplies by it.

    Raises:
        DataError: The image has another number of channels.
    """
    if hasattr(image, "__array__") and not hasattr(image, "mode"):
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != _FOUR:
            raise DataError(
                "the model takes four channels: give uint8 pixels of shape (H, W, 4), not "
                f"{pixels.dtype} of {pixels.shape}"
            )
    else:
        picture = open_image(image)
        if picture.mode not in ("RGBA", "RGBX"):
            raise DataError(
                f"the model takes four channels, and the picture has the channels {picture.mode}"
            )
        pixels = np.asarray(picture, np.uint8)
    if not pixels.size:
        raise DataError(f"an image array of shape {pixels.shape} has no pixels")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _pair(length: int | tuple[int, int]) -> tuple[int, int]:
    return (length, length) if isinstance(length, int) else length


def _resize_of(values: Mapping[str, Any]) -> int | tuple[int, int] | None:
    match values["resize"]:
        case None:
            return None
        case list() | tuple():
            height, width = wholes(values, "resize", least=1)
            return height, width
        case _:
            return whole(values, "resize")
