"""Models whose output is a map of the image: depth, saliency, scores of each place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vitedge.images.pictures import open_image
from vitedge.images.preprocess import ImageLike, Preprocessing
from vitedge.loaded.model import LoadedModel

if TYPE_CHECKING:
    from PIL import Image


class Mapper(LoadedModel):
    """A loaded artefact that gives maps; see ``LoadedModel``."""

    def raw(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """The maps of several images at the model's own resolution.

        Returns:
            float32 ``(len(images), rows, columns)`` or ``(len(images), rows, columns, channels)``.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The runtime failed, or the model is closed.
        """
        return self._outputs(images)

    def predict(self, image: ImageLike) -> npt.NDArray[np.float32]:
        """The map of one image, in the image's coordinates.

        Between the model's places values are interpolated. What preprocessing crops off the
        image is not seen by the model and is NaN.

        Returns:
            float32 ``(height, width)`` or ``(height, width, channels)``: height and width are those
            of the image as it is seen, upright.

        Raises:
            DataError: The image cannot be decoded.
            ModelError: The runtime failed, or the model is closed.
        """
        is_array = hasattr(image, "__array__") and not hasattr(image, "mode")
        picture = np.asarray(image) if is_array else open_image(image)
        height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
        (found,) = self._outputs([picture])
        return in_image(found, self.preprocessing, (int(height), int(width)))


def in_image(
    found: npt.NDArray[np.float32], preprocessing: Preprocessing, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """A map in the coordinates of the image that it was made of.

    Args:
        found: ``(rows, columns)`` or ``(rows, columns, channels)``.
        preprocessing: The steps from the image to pixels.
        size: Height and width of the image.
    """
    top, left, height, width = preprocessing.seen(size)
    channels = found.reshape(*found.shape[:2], -1)
    result = np.full((*size, channels.shape[2]), np.nan, np.float32)
    for channel in range(channels.shape[2]):
        stretched = _stretched(channels[..., channel], (height, width))
        result[top : top + height, left : left + width, channel] = stretched
    return result.reshape(*size, *found.shape[2:])


def _stretched(plane: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    from PIL import Image

    picture: Image.Image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    made = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(made, np.float32)
