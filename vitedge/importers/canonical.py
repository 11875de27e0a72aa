"""Our own ``model.keras``, read without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.keras_archive import archived_config, open_archived_weights
from vitedge.json_values import mapping, whole
from vitedge.vit_assembly import array_names, vit_from_arrays

_REGISTERED_NAME = "vitedge>VisionTransformer"

# Keras files weights under the attributes of ``vitedge.keras_model.VisionTransformer``.
_ATTRIBUTES = {"patch": "embedding/projection", "norm": "final_norm", "pooled_norm": "head_norm"}
_DIRECT = {"prefix": "embedding/vars/0", "positions": "embedding/vars/1"}
_VARIABLES = {"weight": 0, "gamma": 0, "bias": 1, "beta": 1}


class CanonicalImporter:
    """Reads what ``vitedge train``, ``vitedge import`` or ``to_keras(vit).save(...)`` wrote."""

    name = "vitedge"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """A ``.keras`` file whose model is our registered class."""
        return archived_config(path).get("registered_name") == _REGISTERED_NAME

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads config and weights; the optimizer's state, if any, stays unread."""
        config = archived_config(path).get("config")
        if not isinstance(config, dict):
            raise ModelError(f"'{path}' is truncated or not a .keras file of vitedge")
        with open_archived_weights(path) as tensors:
            places = _places(path, config, len(tensors.names))
            arrays = {name: tensors[where] for name, where in places.items()}
        origin = str(config.get("origin", ""))
        words = f"by name: vitedge ({origin})" if origin else "by name: vitedge"
        vit = with_options(vit_from_arrays(config, arrays), options)
        return Imported(vit, words, origin=origin)


def _places(path: Path, config: Mapping[str, Any], arrays: int) -> dict[str, str]:
    """Where each array lies in the HDF5, by canonical name; the file holds so many arrays."""
    try:
        depth = whole(mapping(config, "vit_config"), "depth")
        if depth > arrays:
            raise ValueError(f"{depth} blocks in {arrays} arrays")
        return {name: _DIRECT.get(name) or _place(name) for name in array_names(config)}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the config of '{path}' lacks or garbles {error}") from error


def _place(name: str) -> str:
    layer, _, variable = name.rpartition(".")
    match layer.split("."):
        case ["blocks", index, part]:
            group = f"blocks/{_numbered('transformer_block', index)}/{part}"
        case ["head_hidden", index]:
            group = f"head_hidden/{_numbered('dense', index)}"
        case _:
            group = _ATTRIBUTES.get(layer, layer)
    return f"{group}/vars/{_VARIABLES[variable]}"


def _numbered(name: str, index: str) -> str:
    """Keras numbers the members of a list by class, the first without a number."""
    return name if index == "0" else f"{name}_{index}"


PLUGIN = CanonicalImporter()
