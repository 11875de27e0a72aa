"""A model that learns: one training step, the averaged weights, and all state there is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.network.blocks import blocks
from vitedge.train.frozen import FrozenPart
from vitedge.train.loss import Loss
from vitedge.train.mixed import LossScale
from vitedge.train.optimizer import LayerwiseAdamW, groups
from vitedge.train.recipe import Products
from vitedge.train.replicas import Replicas
from vitedge.train.two_tokens import answers_of_each, reads_two_tokens

if TYPE_CHECKING:
    import numpy.typing as npt

    from vitedge.in_keras.model import NetworkModel
    from vitedge.in_keras.operators import Thinning
    from vitedge.network.network import Network, Value
    from vitedge.train.integer_grid import IntegerGrid
    from vitedge.train.recipe import TrainingRecipe
    from vitedge.train.share import Share

# Keeps the draws of stochastic depth apart from the pipeline's, which have the same seed.
_SALT = 104_729


@dataclass(frozen=True)
class Measured:
    """The quality of a model on labelled images.

    Attributes:
        accuracy: Share of images classified right, 0..1.
        loss: Mean cross-entropy in nats: labels as they are, all images alike, no teacher.
    """

    accuracy: float
    loss: float


class Learner:
    """A Keras model of a network with its optimizer.

    Args:
        model: The model; its variables change as it learns.
        recipe: The recipe of its training.
        loss: The loss that it minimises.
        steps_per_epoch: Steps that make an epoch, for the schedule of the learning rate.
        after_frozen: Its inputs are what ``frozen`` made of pixels, not pixels.
        replicas: The replicas that share each step; None is one alone.
        divided: The share of each replica; None where one has all.
        grid: The grid that its weights are rounded to whenever they are used; None leaves them
            unrounded.
    """

    def __init__(
        self,
        model: NetworkModel,
        recipe: TrainingRecipe,
        loss: Loss,
        steps_per_epoch: int,
        *,
        after_frozen: bool = False,
        replicas: Replicas | None = None,
        divided: Sequence[Share] | None = None,
        grid: IntegerGrid | None = None,
    ) -> None:
        import tensorflow as tf

        self._model, self._recipe, self._loss, self._grid = model, recipe, loss, grid
        self._blocks = blocks(model.form)
        self._replicas, self._divided = replicas or Replicas(), divided
        parts = groups(model, recipe)
        self._kept = FrozenPart(model.form, recipe.trainable_blocks) if after_frozen else None
        if grid is not None:
            parts = grid.with_scales(parts)
        self._optimizer = LayerwiseAdamW(parts, recipe, steps_per_epoch)
        variables = self._optimizer.variables
        self._averages = [tf.Variable(one.value) for one in variables] if recipe.average else []
        self._steps = tf.Variable(0, dtype=tf.int64)
        self._scale = LossScale() if recipe.products == Products.FLOAT16 else None
        self.step = tf.function(self._step, autograph=False)
        self._counted = tf.function(self._count, autograph=False)
        # Of images that are learnt from, and of those that are measured on.
        self.frozen, self.frozen_exactly = (
            tf.function(functools.partial(self._frozen, products=products), autograph=False)
            for products in (recipe.products, Products.FLOAT32)
        )

    def _frozen(self, pixels: Any, products: Products) -> Any:
        """The outputs of the layers that do not learn."""
        from vitedge.in_keras.model import compute_products_in

        assert self._kept is not None
        compute_products_in(self._model, products)
        return self._kept.packed(self._model.compute(self._kept.values, pixels))

    def _forward(
        self,
        inputs: Any,
        products: Products,
        thin: Mapping[Value, tuple[Value, Thinning]] | None = None,
        *,
        each: bool = False,
        outputs: list[Any] | None = None,
    ) -> Any:
        """Logits of pixels ``(N, H, W, C)``, or of what ``frozen`` made of them.

        With ``each``, those of the class token and of the distillation token. ``outputs`` is
        given the tensors that the loss takes beside the logits.
        """
        import keras

        from vitedge.in_keras.model import compute_products_in

        model, grid = self._model, self._grid
        # Decided while this is traced: the same model is in both graphs.
        compute_products_in(model, products)
        logits = model.form.logits
        wanted = [logits.inputs[0] if each else logits]
        wanted += [] if outputs is None else self._loss.shown
        given = None if self._kept is None else self._kept.unpacked(inputs)
        inputs = inputs if given else _scaled(inputs, model.form.image_shape)
        # Within the scope each kernel is what it is rounded to.
        with keras.StatelessScope(state_mapping=grid.weights()) if grid else nullcontext():
            made, *ends = model.compute(
                wanted,
                None if given else inputs,
                given=given,
                thin=thin,
                entering=None if grid is None else grid.entering,
            )
        if outputs is not None:
            outputs += ends
        return answers_of_each(model, made) if each else made

    def _step(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Learns from one batch; its mean loss and its share of right answers."""
        gradients, loss, accuracy = self._replicas.run(self._gradients, (inputs, targets))
        self._learn(gradients)
        self._steps.assign_add(1)
        return loss, accuracy

    def _gradients(self, inputs: Any, targets: Any) -> Any:
        """The gradients, the loss, and the share of right answers of the whole batch."""
        import tensorflow as tf

        share = None if self._divided is None else self._divided[self._replicas.number()]
        # Means over a share, weighted by its size, sum up to the mean over the batch.
        weight = 1.0 if share is None else len(share.positions) / share.of
        variables = [one.value for one in self._optimizer.variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs: list[Any] = []
            logits, for_teacher = self._answers(inputs, share, outputs)
            loss = self._loss(inputs, targets, logits, for_teacher, outputs) * weight
            minimized = loss if self._scale is None else self._scale.scaled(loss)
        gradients = tape.gradient(minimized, variables)
        right = tf.equal(tf.argmax(logits, -1), tf.argmax(targets, -1))
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32)) * weight
        return self._replicas.sum((gradients, loss, accuracy))

    def _learn(self, gradients: Sequence[Any]) -> None:
        """Takes a step down the gradients; none where float16 could not hold them."""
        import tensorflow as tf

        def descend() -> None:
            self._optimizer.apply(gradients)
            self._average()

        if self._scale is None:
            descend()
            return
        gradients = self._scale.unscaled(gradients)
        is_finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
        tf.cond(is_finite, descend, lambda: None)
        self._scale.learn(is_finite)

    def _answers(self, inputs: Any, share: Share | None, outputs: list[Any]) -> tuple[Any, Any]:
        """The logits for labels and for a teacher: DeiT has a token for each."""
        each = self._loss.separate and reads_two_tokens(self._model.form)
        logits = self._forward(
            inputs, self._recipe.products, self._thinning(share), each=each, outputs=outputs
        )
        return logits if each else (logits, logits)

    def _thinning(self, share: Share | None) -> dict[Value, tuple[Value, Thinning]]:
        """Stochastic depth (arXiv:1603.09382): what the branch of each residual sum passes."""
        import tensorflow as tf

        if not self._recipe.stochastic_depth:
            return {}
        draws = itertools.count()  # the branches, counted while the step is traced

        def thin(branch: Any, *, keep: float) -> Any:
            seed = tf.stack([self._recipe.seed + _SALT + next(draws), self._steps])
            count = tf.shape(branch)[0] if share is None else share.of
            draw = tf.random.stateless_uniform((count, *[1] * (len(branch.shape) - 1)), seed)
            if share is not None:
                draw = share.take(draw)
            return tf.where(draw < keep, branch / keep, tf.zeros_like(branch))

        rates = np.linspace(0, self._recipe.stochastic_depth, len(self._blocks)).tolist()
        return {
            each.value: (each.branch, functools.partial(thin, keep=1 - rate))
            for block, rate in zip(self._blocks, rates, strict=True)
            for each in block.sums
        }

    def _average(self) -> None:
        import tensorflow as tf

        if not self._averages:
            return
        # While there are few steps, the plain mean: else the untrained weights would linger.
        done = tf.cast(self._steps, tf.float32)
        momentum = tf.minimum(self._recipe.average, done / (done + 1))
        for average, variable in zip(self._averages, self._optimizer.variables, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable.value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Gives the model the averaged weights inside the block, if the recipe averages any."""
        if not self._averages:
            yield
            return
        held = self.weights()
        self.set_weights([average.numpy() for average in self._averages])
        try:
            yield
        finally:
            self.set_weights(held)

    def network(self) -> Network:
        """The model as it computes now: on its grid, if it has one. The weights go there, too."""
        from vitedge.in_keras.model import from_keras

        for kernel, value in () if self._grid is None else self._grid.weights():
            kernel.assign(value)
        return from_keras(self._model)

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """A copy of the weights that learn, as the model has them now."""
        return [np.array(variable) for variable in self._optimizer.variables]

    def set_weights(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Puts weights that ``weights`` returned back into the model."""
        for variable, value in zip(self._optimizer.variables, weights, strict=True):
            variable.assign(value)

    def measured(self, batches: Iterable[Any]) -> Measured:
        """Measures the model on images, in float32, because that is what is saved.

        Args:
            batches: Inputs and targets; where a target is all zeros, there is no image.
        """
        right = count = 0
        loss = 0.0
        for inputs, targets in batches:
            counts, losses = self._counted(inputs, targets)
            right, count = right + int(counts[0]), count + int(counts[1])
            loss += float(losses)
        return Measured(right / count, loss / count)

    def _count(self, inputs: Any, targets: Any) -> Any:
        return self._replicas.run(self._count_share, (inputs, targets))

    def _count_share(self, inputs: Any, targets: Any) -> Any:
        """Counts the right ones and all of them, and sums up their losses."""
        import tensorflow as tf

        logits = self._forward(inputs, Products.FLOAT32)
        is_image = tf.reduce_any(targets > 0, -1)
        right = tf.equal(tf.argmax(logits, -1), tf.argmax(targets, -1)) & is_image
        counts = [tf.reduce_sum(tf.cast(each, tf.int64)) for each in (right, is_image)]
        # Where there is no image, the target's zeros make the loss zero.
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return self._replicas.sum(counts), self._replicas.sum(tf.reduce_sum(losses))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, for the head."""
        return self._optimizer.learning_rate

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
        scale = [] if self._scale is None else self._scale.state
        return [*optimizer.variables, *optimizer.state, *self._averages, self._steps, *scale]


def _scaled(pixels: Any, shape: tuple[int, int, int]) -> Any:
    """Pixels ``(N, H, W, C)`` as large as a model takes them: those of a larger model are not."""
    import tensorflow as tf

    size = shape[:2]
    if tuple(pixels.shape[1:3]) == size:
        return pixels
    made = tf.image.resize(tf.cast(pixels, tf.float32), size, "bicubic", antialias=True)
    return tf.clip_by_value(made, 0.0, 255.0)
