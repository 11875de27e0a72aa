"""Models whose output is a vector to compare with those of other images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError
from vitedge.images.preprocess import ImageLike
from vitedge.loaded.model import LoadedModel


class Embedder(LoadedModel):
    """A loaded artefact that gives embeddings; see ``LoadedModel``."""

    def embed(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """The embeddings of several images, as they are: not brought to unit length.

        Returns:
            float32 ``(len(images), width)``, or ``(len(images), tokens, width)`` where the model
            gives a vector for each token.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The runtime failed, or the model is closed.
        """
        return self._outputs(images)

    def similarity(
        self, images: Iterable[ImageLike], others: Iterable[ImageLike]
    ) -> npt.NDArray[np.float32]:
        """The cosine of the angle between the embeddings of images and of others, -1..1.

        Returns:
            float32 ``(len(images), len(others))``; 0 where an embedding is all zero.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The model gives tokens, and no vector of the whole image; the runtime
                failed, or the model is closed.
        """
        first, second = (_directions(self.embed(each)) for each in (images, others))
        return np.asarray(first @ second.T, np.float32)


def _directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if vectors.ndim != 2:
        raise ModelError(
            f"the model gives {vectors.shape[1]} vectors for each image; compare them by what "
            "embed gives"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
