"""A model that learns: one training step, the averaged weights, and all state there is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vitedge.train.loss import Loss
from vitedge.train.optimizer import LayerwiseAdamW, groups

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.train.recipe import Recipe

Logits: TypeAlias = Callable[[Any], Any]

# Keeps the draws of stochastic depth apart from the pipeline's, which have the same seed.
_SALT = 104_729


class Learner:
    """A Keras ``VisionTransformer`` with its optimizer.

    Args:
        model: The model; its variables change as it learns.
        recipe: How it learns.
        loss: What it minimises.
        steps_per_epoch: Steps that make an epoch, for the schedule of the learning rate.
        after_frozen: Its inputs are what ``frozen`` made of pixels, not pixels.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        loss: Loss,
        steps_per_epoch: int,
        *,
        after_frozen: bool = False,
    ) -> None:
        import tensorflow as tf

        self._model, self._recipe, self._loss = model, recipe, loss
        self._after_frozen = after_frozen
        depth, trainable = len(model.blocks), recipe.trainable_blocks
        self._frozen_blocks = 0 if trainable is None else depth - trainable
        self._optimizer = LayerwiseAdamW(groups(model, recipe), recipe, steps_per_epoch)
        variables = self._optimizer.variables
        self._averages = [tf.Variable(one.value) for one in variables] if recipe.average else []
        self._steps = tf.Variable(0, dtype=tf.int64)
        self.step = tf.function(self._step, autograph=False)
        self._logits = tf.function(self._forward, autograph=False)
        self.frozen = tf.function(self._frozen, autograph=False)

    def _frozen(self, pixels: Any) -> Any:
        """What the layers that do not learn make of pixels: tokens, or features for the head."""
        if self._recipe.trainable_blocks == 0:
            return self._model.features(pixels)
        return self._model.tokens(pixels, self._frozen_blocks)

    def _forward(self, inputs: Any, thin: Sequence[Any] = ()) -> Any:
        """Logits of pixels ``(N, H, W, C)``, or of what ``frozen`` made of them."""
        model = self._model
        if not self._after_frozen:
            return model.classify(model.features(inputs, thin))
        if self._recipe.trainable_blocks == 0:
            return model.classify(inputs)
        return model.classify(model.features_after(inputs, self._frozen_blocks, thin))

    def _step(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Learns from one batch; its mean loss and its share of right answers."""
        import tensorflow as tf

        variables = [one.value for one in self._optimizer.variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = self._forward(inputs, self._thinning())
            loss = self._loss(inputs, targets, logits)
        self._optimizer.apply(tape.gradient(loss, variables))
        self._average(variables)
        self._steps.assign_add(1)
        right = tf.equal(tf.argmax(logits, -1), tf.argmax(targets, -1))
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    def _thinning(self) -> list[Callable[[Any], Any]]:
        """Stochastic depth (arXiv:1603.09382): a function for each block's branches."""
        import tensorflow as tf

        if not self._recipe.stochastic_depth:
            return []
        draws = itertools.count()  # two branches a block, counted while the step is traced

        def thin(branch: Any, *, keep: float) -> Any:
            seed = tf.stack([self._recipe.seed + _SALT + next(draws), self._steps])
            draw = tf.random.stateless_uniform((tf.shape(branch)[0], 1, 1), seed)
            return tf.where(draw < keep, branch / keep, tf.zeros_like(branch))

        rates = np.linspace(0, self._recipe.stochastic_depth, len(self._model.blocks))
        return [functools.partial(thin, keep=1 - rate) for rate in rates.tolist()]

    def _average(self, variables: Sequence[Any]) -> None:
        import tensorflow as tf

        if not self._averages:
            return
        # While there are few steps, the plain mean: else the untrained weights would linger.
        done = tf.cast(self._steps, tf.float32)
        momentum = tf.minimum(self._recipe.average, done / (done + 1))
        for average, variable in zip(self._averages, variables, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the model has the averaged weights, if the recipe averages any."""
        if not self._averages:
            yield
            return
        held = self.weights()
        self.set_weights([average.numpy() for average in self._averages])
        try:
            yield
        finally:
            self.set_weights(held)

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """A copy of the weights that learn, as the model has them now."""
        return [np.array(variable) for variable in self._optimizer.variables]

    def set_weights(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Puts weights that ``weights`` returned back into the model."""
        for variable, value in zip(self._optimizer.variables, weights, strict=True):
            variable.assign(value)

    def accuracy(self, batches: Any) -> float:
        """Share of images classified right, 0..1, of a dataset of inputs and targets."""
        right = count = 0
        for inputs, targets in batches:
            answers = np.asarray(self._logits(inputs)).argmax(-1)
            right += int((answers == np.asarray(targets).argmax(-1)).sum())
            count += len(answers)
        return right / count

    def state(self) -> list[npt.NDArray[np.generic]]:
        """All that must be kept to continue later as if nothing had happened."""
        return [np.array(variable) for variable in self._state_variables()]

    def restore(self, state: Sequence[npt.NDArray[np.generic]]) -> None:
        """Continues from what ``state`` returned.

        Raises:
            ValueError: The state is of another model or recipe.
        """
        for variable, value in zip(self._state_variables(), state, strict=True):
            variable.assign(value)

    def _state_variables(self) -> list[Any]:
        optimizer = self._optimizer
        return [*optimizer.variables, *optimizer.state, *self._averages, self._steps]
