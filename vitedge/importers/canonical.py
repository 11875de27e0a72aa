"""Our own ``model.keras``, read without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitedge.elements.saved_by_0_1 import array_places, vit_from_arrays
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, whole
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.keras_archive import archived_config, open_archived_weights
from vitedge.network.network import Network
from vitedge.network.saved import restored
from vitedge.network.stored_arrays import Stored

# The second is the name that 0.1 wrote, and that a model loaded from its files keeps.
_REGISTERED_NAMES = ("vitedge>NetworkModel", "vitedge>VisionTransformer")


class CanonicalImporter:
    """Reads what ``vitedge train``, ``vitedge import`` or ``to_keras(network).save(...)`` wrote."""

    name = "vitedge"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """A ``.keras`` file whose model is our registered class."""
        return archived_config(path).get("registered_name") in _REGISTERED_NAMES

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads config and weights; the optimizer's state, if any, stays unread."""
        config = archived_config(path).get("config")
        if not isinstance(config, dict):
            raise ModelError(f"'{path}' is truncated or not a .keras file of vitedge")
        network = _network(path, config) if "network" in config else _network_of_0_1(path, config)
        origin = str(config.get("origin", ""))
        words = f"by name: vitedge ({origin})" if origin else "by name: vitedge"
        return Imported(with_options(network, options), words, origin=origin)


def _network(path: Path, config: Mapping[str, Any]) -> Network:
    """The network that ``in_keras.model.NetworkModel`` saved: arrays lie under their numbers."""
    try:
        stored = [Stored.from_dict(each) for each in config["arrays"]]
        description = dict(config["network"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(f"the config of '{path}' is incomplete or malformed: {error}") from error
    arrays = {each.name: each.array for each in stored if not each.is_apart}
    with open_archived_weights(path) as tensors:
        for place, each in enumerate(stored):
            if each.is_apart:
                arrays[each.name] = tensors[f"vars/{place}"]
                if arrays[each.name].shape != each.shape:
                    raise ModelError(
                        f"'{each.name}' in '{path}' has shape {arrays[each.name].shape}, expected "
                        f"{each.shape}"
                    )
    return restored(description, arrays)


def _network_of_0_1(path: Path, config: Mapping[str, Any]) -> Network:
    """The network of a model that was a tree of layers."""
    with open_archived_weights(path) as tensors:
        try:
            depth = whole(mapping(config, "vit_config"), "depth")
            if depth > len(tensors.names):
                raise ValueError(f"{depth} blocks in {len(tensors.names)} arrays")
            places = array_places(config)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the config of '{path}' is incomplete or malformed: {error}"
            ) from error
        arrays = {name: tensors[where] for name, where in places.items()}
    return network_of(vit_from_arrays(config, arrays))


PLUGIN = CanonicalImporter()
