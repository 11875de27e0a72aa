"""A network as a trainable Keras 3 model, and back.

The model is registered, so ``keras.saving.load_model`` reads a saved one after nothing but
``import vitedge`` (see ``vitedge/__init__.py``). It takes raw pixels 0..255 and carries the whole
network in its config, preprocessing and labels included: one file is all there is to keep.

Only those who have Keras import this module; it needs no other engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from vitedge.in_keras.operators import FULL, Entering, Manner, Thinning, computed
from vitedge.network.blocks import learnt_constants
from vitedge.network.network import Network, Value
from vitedge.network.operators import Array
from vitedge.network.saved import array_parts, described, restored
from vitedge.network.stored_arrays import Stored, stored_arrays, zeros

PACKAGE = "vitedge"


@dataclass(frozen=True, eq=False)
class _Weights:
    """The variables by array name; a class of its own, so that Keras does not track them twice."""

    variables: dict[str, Any]


@keras.saving.register_keras_serializable(PACKAGE)
class NetworkModel(keras.Model):  # type: ignore[misc]  # keras is untyped
    """Raw pixels 0..255, ``(N, H, W, C)``, to logits ``(N, classes)``.

    A network that has other outputs, too, or no logits, gives all of them by name.

    Args:
        network: The network as ``network.saved.described`` describes it.
        arrays: Every array of the network; see ``network.stored_arrays``.
        origin: The way in which the weights were imported, in words; empty if they were not
            imported.

    Attributes:
        form: The network, with zeros for its weights.
        products: Dtype of convolutions, matrix products and linear layers but the head's.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        arrays: Sequence[Mapping[str, Any]],
        origin: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.origin, self.products = origin, FULL
        self._stored = tuple(Stored.from_dict(each) for each in arrays)
        self.form = restored(network, zeros(self._stored))
        self._weights = _Weights({})
        constants = learnt_constants(self.form)
        learnt = {
            f"{value.name}.{part}"
            for value in self.form.values
            for part in array_parts(value.operator)
            if value in constants or not value.is_constant
        }
        for each in self._stored:
            if each.is_apart:
                self._weights.variables[each.name] = self.add_weight(
                    shape=each.shape,
                    dtype=FULL,
                    initializer="zeros",
                    trainable=each.name in learnt,
                    autocast=False,
                    name=each.name.replace("/", "."),
                )
        self.built = True

    def call(self, pixels: Any) -> Any:
        """Raw pixels to the outputs."""
        names = list(self.form.outputs)
        made = self.compute([self.form.outputs[name] for name in names], pixels)
        return made[0] if names == [self.form.task.output] else dict(zip(names, made, strict=True))

    def compute(
        self,
        wanted: Sequence[Value],
        pixels: Any,
        *,
        given: Mapping[Value, Any] | None = None,
        thin: Mapping[Value, tuple[Value, Thinning]] | None = None,
        entering: Entering | None = None,
    ) -> list[Any]:
        """Computes some values of ``form``.

        Args:
            wanted: The values to compute.
            pixels: Raw pixels ``(N, H, W, C)``; None where all is made of what is given.
            given: Values that are known, ``(N, ...)`` each.
            thin: The branch of each residual sum that is thinned in training, and its thinning.
            entering: The function that the inputs of linear layers pass.
        """
        held = dict(given or {})
        manner = Manner(self._array, str(self.products), thin or {}, entering)
        unread = _readings(self.form, wanted, held)
        for value in self.form.values:
            if value in held or value not in unread:
                continue
            inputs = [held[each] for each in value.inputs]
            held[value] = computed(value, inputs, pixels, manner)
            for each in value.inputs:
                unread[each] -= 1
                if not unread[each]:
                    del held[each]
        return [held[value] for value in wanted]

    def weights_of(self, value: Value) -> dict[str, Any]:
        """The variables of a value's operator by the names of its parts."""
        names = {part: f"{value.name}.{part}" for part in array_parts(value.operator)}
        return {part: self.variable(n) for part, n in names.items() if self.has_variable(n)}

    def has_variable(self, name: str) -> bool:
        """Whether an array is a variable; what has no axes or is in float64 is none."""
        return name in self._weights.variables

    def variable(self, name: str) -> Any:
        """The variable of an array, by the names of its value and its part."""
        return self._weights.variables[name]

    def _array(self, value: Value, part: str) -> Any:
        name = f"{value.name}.{part}"
        if self.has_variable(name):
            return keras.ops.convert_to_tensor(self.variable(name))
        return keras.ops.convert_to_tensor(np.asarray(getattr(value.operator, part), FULL))

    def save_own_variables(self, store: Any) -> None:
        """Writes each array under its place in the config's list."""
        for place, variable in self._places():
            store[place] = np.asarray(variable)

    def load_own_variables(self, store: Any) -> None:
        """Reads what ``save_own_variables`` wrote."""
        for place, variable in self._places():
            variable.assign(store[place])

    def _places(self) -> Iterator[tuple[str, Any]]:
        for place, each in enumerate(self._stored):
            if each.is_apart:
                yield str(place), self._weights.variables[each.name]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "network": described(self.form)[0],
            "arrays": [each.to_dict() for each in self._stored],
            "origin": self.origin,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NetworkModel:
        """Rebuilds the model, with zeros for weights."""
        return cls(**config)


def _readings(
    form: Network, wanted: Sequence[Value], given: Mapping[Value, Any]
) -> dict[Value, int]:
    """The number of reads to come of each value that is needed; one more of what is wanted."""
    unread: dict[Value, int] = {}
    for value in wanted:
        unread[value] = unread.get(value, 0) + 1
    for value in reversed(form.values):
        if value in unread and value not in given:
            for each in value.inputs:
                unread[each] = unread.get(each, 0) + 1
    return unread


def to_keras(network: Network, *, origin: str = "") -> NetworkModel:
    """Builds the Keras model of a network, with its weights.

    Args:
        network: The model.
        origin: The way in which it was imported, in words, for its config.
    """
    description, arrays = described(network)
    stored = stored_arrays(arrays)
    model = NetworkModel(description, [each.to_dict() for each in stored], origin)
    for each in stored:
        if each.is_apart:
            model.variable(each.name).assign(arrays[each.name])
    return model


def main_output(network: Network, made: Any) -> Array:
    """The main output among what the Keras model of a network gave."""
    return np.asarray(made[network.main_name] if isinstance(made, dict) else made, np.float32)


def from_keras(model: NetworkModel) -> Network:
    """Reads the network of one of our Keras models."""
    description, arrays = described(model.form)

    for name in arrays:
        if model.has_variable(name):
            arrays[name] = np.asarray(model.variable(name), np.float32)
    return restored(description, arrays)


def compute_products_in(model: NetworkModel, dtype: str) -> None:
    """Lets convolutions, matrix products and linear layers compute in another dtype.

    Weights, norms, softmax, activations, the residual stream and the head stay float32.

    Args:
        model: Changed in place; a saved model does not keep it, as ``from_keras`` does not.
        dtype: ``bfloat16``, ``float16``, or ``float32`` as at first.
    """
    model.products = str(dtype)


# Last, for it derives from the model: whoever has this module can read what 0.1 saved, too.
import vitedge.in_keras.saved_by_0_1  # noqa: E402, F401
