"""Models whose output is measured numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from vitedge.images.preprocess import ImageLike
from vitedge.loaded.model import LoadedModel


class Regressor(LoadedModel):
    """A loaded artefact that gives numbers; see ``LoadedModel``.

    ``labels`` name the numbers, where somebody named them.
    """

    def predict(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """The numbers of several images, in the units that the model was trained with.

        Returns:
            float32 ``(len(images), numbers)``.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The runtime failed, or the model is closed.
        """
        return self._outputs(images)
