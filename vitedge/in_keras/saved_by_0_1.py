"""The ``.keras`` files of vitedge 0.1, whose model was a tree of layers: they load as networks.

Nothing of the old layers is here but their names and where their weights lay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from vitedge.elements.saved_by_0_1 import array_places, array_shapes, vit_from_arrays
from vitedge.elements.vision_transformer import network_of
from vitedge.in_keras.model import PACKAGE, NetworkModel
from vitedge.network.saved import described
from vitedge.network.stored_arrays import stored_arrays


class _Part(keras.layers.Layer):  # type: ignore[misc]
    """Has the place of an old layer, and fills variables of the new model from there."""

    def __init__(self) -> None:
        super().__init__()
        self.built = True
        self._targets = _Targets()

    def add(self, place: str, variable: Any) -> None:
        """Lets a variable be read from a place among the layer's own."""
        self._targets.variables[place] = variable

    def load_own_variables(self, store: Any) -> None:
        """Fills them."""
        for place, variable in self._targets.variables.items():
            variable.assign(store[place])

    def save_own_variables(self, store: Any) -> None:
        """Writes nothing: the variables are the model's."""


class _Targets:
    """Variables that a layer shall not count as its own."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}


# Keras names the members of a list by their class.
class TransformerBlock(_Part):
    """One of the old model's ``blocks``."""


class Dense(_Part):
    """One of the old model's ``head_hidden``."""


_MEMBERS = {"blocks": TransformerBlock, "head_hidden": Dense}


@keras.saving.register_keras_serializable(PACKAGE)
class VisionTransformer(NetworkModel):
    """A model that 0.1 saved, as a network; saved again it is one like all others."""

    def load_own_variables(self, store: Any) -> None:
        """Nothing: all that there was lies below."""

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NetworkModel:
        """The network of an old config, with zeros for weights and parts that fill them."""
        if "network" in config:
            return NetworkModel.from_config(config, custom_objects)
        config = {"head_hidden": (), **config}
        blank = np.zeros((), np.float32)
        shapes = array_shapes(config)
        network = network_of(
            vit_from_arrays(config, {n: np.broadcast_to(blank, shapes[n]) for n in shapes})
        )
        description, arrays = described(network)
        # In the order of the old model's variables, which is that of its optimizer's state.
        names = {name: _new_name(name) for name in shapes if _new_name(name) in arrays}
        ordered = {name: arrays[name] for name in (*names.values(), *arrays)}
        stored = [each.to_dict() for each in stored_arrays(ordered)]
        model = cls(description, stored, str(config.get("origin", "")), name=config.get("name"))
        places = array_places(config)
        _add_parts(model, {places[old]: model.variable(new) for old, new in names.items()})
        return model


def _new_name(old: str) -> str:
    return old if "." in old else f"{old}.values"


def _add_parts(model: NetworkModel, variables: Mapping[str, Any]) -> None:
    """Puts a part wherever the old model had a layer with weights.

    Args:
        model: Changed in place.
        variables: The variables, by their path in the file.
    """
    made: dict[str, Any] = {}

    def part_at(path: str) -> Any:
        if not path:
            return model
        if path not in made:
            folder, _, name = path.rpartition("/")
            if folder in _MEMBERS:
                made[path] = _MEMBERS[folder]()
                members = getattr(model, folder, [])
                setattr(model, folder, [*members, made[path]])
            else:
                made[path] = _Part()
                setattr(part_at(folder), name, made[path])
        return made[path]

    for path, variable in variables.items():
        folder, _, place = path.partition("/vars/")
        part_at(folder).add(place, variable)
