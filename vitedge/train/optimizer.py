"""Learning rates of each weight: AdamW with warm-up, cosine decay and layer-wise rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitedge.errors import UsageError
from vitedge.network.blocks import blocks, head_of, parts_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import Match

if TYPE_CHECKING:
    from vitedge.in_keras.model import NetworkModel
    from vitedge.train.recipe import TrainingRecipe


@dataclass(frozen=True)
class Group:
    """Variables that share a learning rate.

    Attributes:
        variables: Keras variables.
        rate: Factor on the recipe's learning rate.
        decayed: The variables among them that weight decay pulls towards zero.
    """

    variables: tuple[Any, ...]
    rate: float
    decayed: tuple[Any, ...] = ()


def groups(model: NetworkModel, recipe: TrainingRecipe) -> tuple[Group, ...]:
    """The variables of a model that learn, from the input to the head.

    Raises:
        UsageError: More blocks shall learn than the model has.
    """
    first, *found, rest = parts_of(model.form)
    depth, trainable = len(found), recipe.trainable_blocks
    if trainable is not None and trainable > depth:
        raise UsageError(f"{trainable} trainable blocks of a model that has {depth}")
    if trainable == 0:
        head = head_of(model.form, blocks(model.form))
        if not head:
            raise UsageError("the model's logits are not made by a head that could learn alone")
        return (_group(model, head, 1.0),)
    layers = [first, *found, rest]
    if trainable is not None:
        layers = layers[-1 - trainable :]
    return tuple(
        _group(model, values, recipe.layer_decay ** (len(layers) - 1 - index))
        for index, values in enumerate(layers)
    )


def _group(model: NetworkModel, values: Sequence[Value], rate: float) -> Group:
    """The variables that the logits are made with."""
    used = _reached_by_gradients(model.form)
    weights = [model.weights_of(value) for value in values if value in used]
    return Group(
        tuple(one for each in weights for one in each.values() if one.trainable),
        rate,
        # Only matrices decay: of all else, pulling towards zero has no meaning.
        tuple(each["weight"] for each in weights if "weight" in each),
    )


def _reached_by_gradients(network: Network) -> set[Value]:
    """The values that the logits are made with; no gradient passes a choice of tokens."""
    reached = {network.logits}
    for value in reversed(network.values):
        if value in reached and not isinstance(value.operator, Match):
            reached.update(value.inputs)
    return reached


class LayerwiseAdamW:
    """One Keras AdamW per learning rate, and one gradient clip over all of them."""

    def __init__(
        self, parts: Sequence[Group], recipe: TrainingRecipe, steps_per_epoch: int
    ) -> None:
        import keras

        self._clip = recipe.gradient_clip
        self._parts = []
        warmup = round(recipe.warmup_epochs * steps_per_epoch)
        self.variables: list[Any] = []
        decayed = {id(one) for part in parts for one in part.decayed}
        for rate, variables in _by_rate(parts).items():
            schedule = keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=0.0 if warmup else rate * recipe.learning_rate,
                decay_steps=max(1, recipe.epochs * steps_per_epoch - warmup),
                warmup_target=rate * recipe.learning_rate if warmup else None,
                warmup_steps=warmup,
            )
            adamw = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
            adamw.exclude_from_weight_decay([one for one in variables if id(one) not in decayed])
            adamw.build(variables)
            self._parts.append((adamw, len(variables)))
            self.variables += variables

    def apply(self, gradients: Sequence[Any]) -> None:
        """Takes one step down the gradients, which are in the order of ``variables``."""
        import tensorflow as tf

        clipped, _ = tf.clip_by_global_norm(gradients, self._clip)
        start = 0
        for adamw, count in self._parts:
            adamw.apply(clipped[start : start + count])
            start += count

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, for the last group: the recipe's own."""
        return float(self._parts[-1][0].learning_rate)

    @property
    def state(self) -> list[Any]:
        """Every variable that must be kept to continue later."""
        return [variable for adamw, _ in self._parts for variable in adamw.variables]


def _by_rate(parts: Sequence[Group]) -> dict[float, list[Any]]:
    together: dict[float, list[Any]] = {}
    for group in parts:
        together.setdefault(group.rate, []).extend(group.variables)
    return together
