"""The loss of training: cross-entropy with smoothed labels, class weights and a teacher.

Behind rounded weights each block also imitates the float model's: two hundred photos have few
labels or probabilities to teach, but a hundred million numbers between the blocks
(arXiv:2102.05426, section 3, reconstructs blocks for the same reason).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.network.network import Value
    from vitedge.train.imitation import Imitation
    from vitedge.train.recipe import TrainingRecipe


class Loss:
    """The mean loss of a batch.

    Args:
        recipe: Smoothing, and how the teacher is listened to.
        class_weights: Factor on the loss of each class, float32 ``(classes,)``.
        teacher: Makes logits of pixels: a Keras model of the same classes and image size, or None.
        imitation: The student beside the model whose blocks it imitates; None if there is none.
            That model may be the teacher as well.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        class_weights: npt.NDArray[np.float32],
        teacher: Callable[[Any], Any] | None = None,
        imitation: Imitation | None = None,
    ) -> None:
        self._recipe, self._weights = recipe, class_weights
        self._teacher, self._imitation = teacher, imitation

    @property
    def shown(self) -> Sequence[Value]:
        """The values of the student whose tensors a call takes as ``outputs``."""
        return () if self._imitation is None else self._imitation.shown

    @property
    def separate(self) -> bool:
        """Whether a distillation token learns from the teacher and the class token does not."""
        return self._teacher is not None and self._recipe.distillation.hard

    def __call__(
        self,
        pixels: Any,
        targets: Any,
        logits: Any,
        for_teacher: Any = None,
        outputs: Sequence[Any] = (),
    ) -> Any:
        """A scalar.

        Args:
            pixels: The batch as the student saw it, which the teacher sees, too.
            targets: Probability of each class, ``(N, classes)``.
            logits: The student's, ``(N, classes)``.
            for_teacher: The logits that are compared with the teacher's; None for the same.
            outputs: The outputs of each block of the student, ``(N, ...)``.
        """
        import tensorflow as tf

        answers, wanted = self._shown(pixels)
        smoothing, classes = self._recipe.label_smoothing, targets.shape[-1]
        smoothed = targets * (1 - smoothing) + smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
        if answers is not None:
            share = self._recipe.distillation.share
            compared = logits if for_teacher is None else for_teacher
            losses = (1 - share) * losses + share * self._distance(answers, compared)
        weights = tf.linalg.matvec(targets, self._weights)
        mean = tf.reduce_mean(weights * losses)
        if wanted and self._imitation is not None:
            distance = self._imitation.distance(outputs, wanted)
            mean += self._recipe.distillation.blocks * distance
        return mean

    def _shown(self, pixels: Any) -> tuple[Any, list[Any]]:
        """The teacher's logits, and what the exact model's blocks make; neither learns."""
        import tensorflow as tf

        outputs: list[Any] = []
        answers = None
        exact = None
        if self._imitation is not None:
            exact, ends = self._imitation.exact, self._imitation.ends
            answers, *outputs = exact.compute([exact.form.logits, *ends], pixels)
        if self._teacher is None:
            answers = None
        elif self._teacher is not exact:
            answers = self._teacher(pixels)
        if answers is not None:
            answers = tf.stop_gradient(answers)
        return answers, [tf.stop_gradient(each) for each in outputs]

    def _distance(self, answers: Any, logits: Any) -> Any:
        """The distance of the student's logits from the teacher's, ``(N,)``."""
        import tensorflow as tf

        if self._recipe.distillation.hard:
            classes = tf.argmax(answers, axis=-1)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
        temperature = self._recipe.distillation.temperature
        wanted = tf.nn.softmax(answers / temperature)
        distance, least = (
            tf.nn.softmax_cross_entropy_with_logits(wanted, each / temperature)
            for each in (logits, answers)
        )
        # Gradients shrink with the square of the temperature (arXiv:1503.02531, section 2).
        return temperature**2 * (distance - least)


def balanced_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """Inverse class frequencies whose mean over the images is 1; 0 for classes without images."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
