"""LoRA adapters as PEFT saves them, merged into the weights of their base (arXiv:2106.09685)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, number, shown
from vitedge.importers.reading.json_file import read_json
from vitedge.importers.reading.safetensors_file import open_safetensors, safetensors_names
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.reading.torch_file import open_torch
from vitedge.network.operators import Array

CONFIG = "adapter_config.json"
_WEIGHTS, _OLD_WEIGHTS = "adapter_model.safetensors", "adapter_model.bin"

_ROOT = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_SAVED = ".modules_to_save"

# Those that leave the base as it was; the others change its weights, which the adapter then lacks.
_INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
_WHAT_MERGING_LACKS = ("use_dora", "layer_replication", "lora_bias", "trainable_token_indices")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter in memory.

    Attributes:
        folder: The folder of the adapter, for messages.
        deltas: The change to each weight of the base, by its name: the two factors and a scale.
        replaced: Arrays that take the place of the base's, such as a new classifier.
        transposed: The base stores its layers as ``(inputs, outputs)``.
    """

    folder: Path
    deltas: Mapping[str, tuple[Array, Array, float]]
    replaced: Mapping[str, Array]
    transposed: bool = False
    _merged: list[bool] = field(default_factory=list)

    @property
    def was_merged(self) -> bool:
        """Whether some importer took it."""
        return bool(self._merged)

    def merged(self, base: Tensors) -> Tensors:
        """The base's arrays with the adapter in them.

        Raises:
            ModelError: The adapter is of another model.
        """
        self._merged.append(True)
        for name, (a, b, _) in self.deltas.items():
            if name not in base:
                raise self._of_another(f"which lacks '{name}'", base)
            if math.prod(base.shape(name)) != len(b) * math.prod(a.shape[1:]):
                raise self._of_another(f"whose '{name}' has the shape {base.shape(name)}", base)
        shapes = {name: base.shape(name) for name in base.names}
        shapes |= {name: array.shape for name, array in self.replaced.items()}

        def load(name: str) -> Array:
            if name in self.replaced:
                return self.replaced[name]
            if name not in self.deltas:
                return base[name]
            weight, (a, b, scale) = base[name], self.deltas[name]
            delta = b.reshape(len(b), -1) @ a.reshape(len(a), -1)
            delta = delta.T if self.transposed else delta
            return weight + np.float32(scale) * delta.reshape(weight.shape)

        return Tensors(base.source, shapes, load, held=base.held)

    def _of_another(self, why: str, base: Tensors) -> ModelError:
        return ModelError(f"the adapter '{self.folder}' is not of '{base.source}', {why}")


def read_adapter(folder: Path) -> Adapter:
    """Reads the folder of an adapter.

    Raises:
        ModelError: The adapter is damaged, or of a kind that cannot be merged exactly.
    """
    config = read_json(folder / CONFIG)
    _refuse_other_kinds(folder, config)
    path = folder / _WEIGHTS
    names = safetensors_names(path)
    with open_safetensors(path) if names else open_torch(folder / _OLD_WEIGHTS) as tensors:
        arrays = {_bare(name): tensors[name] for name in sorted(tensors.names)}
    layers = [name.removesuffix(_A) for name in arrays if name.endswith(_A)]
    try:
        deltas = {f"{name}.weight": _delta(name, arrays, config) for name in layers}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the adapter '{folder}' is incomplete or malformed: {error}") from error
    rest = {name: array for name, array in arrays.items() if ".lora_" not in name}
    strange = [name for name in arrays if ".lora_" in name and not name.endswith((_A, _B))]
    if strange or not (deltas or rest):
        what = f"'{strange[0]}'" if strange else "no weights"
        raise ModelError(f"the adapter '{folder}' holds {what}, which cannot be merged")
    return Adapter(folder, deltas, rest, bool(config.get("fan_in_fan_out")))


def _bare(name: str) -> str:
    """The name of the base's layer, without what PEFT puts before and into it."""
    bare = name.removeprefix(_ROOT).replace(".default.", ".")
    return bare.replace(f"{_SAVED}.", ".").replace(".base_layer.", ".")


def _refuse_other_kinds(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"'{folder}' is an adapter of the kind {shown(kind)}, and vitedge merges LoRA alone; "
            "save the merged model: model.merge_and_unload().save_pretrained(...)"
        )
    odd = [name for name in _WHAT_MERGING_LACKS if config.get(name)]
    if config.get("init_lora_weights", True) not in _INITIALIZATIONS:
        odd.append(f"init_lora_weights={config['init_lora_weights']}")
    if odd:
        raise ModelError(
            f"the adapter '{folder}' says {odd[0]}, which vitedge does not merge; save the merged "
            "model: model.merge_and_unload().save_pretrained(...)"
        )


def _delta(
    name: str, arrays: Mapping[str, Array], config: Mapping[str, Any]
) -> tuple[Array, Array, float]:
    a, b = arrays[f"{name}{_A}"], arrays[f"{name}{_B}"]
    rank = len(a)
    if a.ndim < 2 or b.ndim < 2 or math.prod(b.shape[1:]) != rank or not rank:
        raise ValueError(f"'{name}', whose factors have the shapes {a.shape} and {b.shape}")
    alpha = number(config, "lora_alpha")
    for pattern, value in mapping({"alpha_pattern": {}, **config}, "alpha_pattern").items():
        # PEFT takes regular expressions, which a stranger's file should not run.
        if not re.fullmatch(r"[\w.]+", pattern):
            raise ValueError(f"'alpha_pattern', of which '{pattern}' is not a plain name")
        if name == pattern or name.endswith(f".{pattern}"):
            alpha = number({"alpha": value}, "alpha")
            break
    return a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
