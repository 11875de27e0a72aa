"""What training minimises: cross-entropy with smoothed labels, class weights and a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.train.recipe import Recipe


class Loss:
    """The mean loss of a batch.

    Args:
        recipe: Smoothing and the share of the teacher.
        class_weights: Factor on the loss of each class, float32 ``(classes,)``.
        teacher: A Keras ``VisionTransformer`` of the same classes and image size, or None.
    """

    def __init__(
        self, recipe: Recipe, class_weights: npt.NDArray[np.float32], teacher: Any = None
    ) -> None:
        self._recipe, self._weights, self._teacher = recipe, class_weights, teacher

    @property
    def separate(self) -> bool:
        """Whether a distillation token learns from the teacher and the class token does not."""
        return self._teacher is not None and self._recipe.distillation.hard

    def __call__(self, pixels: Any, targets: Any, logits: Any, for_teacher: Any = None) -> Any:
        """A scalar.

        Args:
            pixels: The batch as the student saw it, which the teacher sees, too.
            targets: Probability of each class, ``(N, classes)``.
            logits: The student's, ``(N, classes)``.
            for_teacher: Those that are compared with the teacher's; None for the same.
        """
        import tensorflow as tf

        smoothing, classes = self._recipe.label_smoothing, targets.shape[-1]
        smoothed = targets * (1 - smoothing) + smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
        if self._teacher is not None:
            share = self._recipe.distillation.share
            compared = logits if for_teacher is None else for_teacher
            losses = (1 - share) * losses + share * self._distance(pixels, compared)
        weights = tf.linalg.matvec(targets, self._weights)
        return tf.reduce_mean(weights * losses)

    def _distance(self, pixels: Any, logits: Any) -> Any:
        """How far the student's answers lie from the teacher's, ``(N,)``."""
        import tensorflow as tf

        answers = tf.stop_gradient(self._teacher(pixels))
        if self._recipe.distillation.hard:
            classes = tf.argmax(answers, axis=-1)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
        temperature = self._recipe.distillation.temperature
        wanted = tf.nn.softmax(answers / temperature)
        distance = tf.nn.softmax_cross_entropy_with_logits(wanted, logits / temperature)
        # Gradients shrink with the square of the temperature (arXiv:1503.02531, section 2).
        return temperature**2 * distance


def balanced_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """Inverse class frequencies whose mean over the images is 1; 0 for classes without images."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
