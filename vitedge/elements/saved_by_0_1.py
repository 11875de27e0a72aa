"""A plain ViT put together from what 0.1 saved of it: a config and arrays by canonical name.

Free of engines: those who read a ``model.keras`` with Keras and those who read it without share
this code, so both get the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig, expected_shapes
from vitedge.errors import ModelError
from vitedge.files.json_values import mapping, number, text, texts, whole, wholes
from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.operators import Array, Linear, Norm

_ATTRIBUTES = {"patch": "embedding/projection", "norm": "final_norm", "pooled_norm": "head_norm"}
_DIRECT = {"prefix": "embedding/vars/0", "positions": "embedding/vars/1"}
_VARIABLES = {"weight": 0, "gamma": 0, "bias": 1, "beta": 1}

_COUNTS = (
    *("channels", "dim", "depth", "heads", "head_dim", "mlp_dim", "classes", "prefix_tokens"),
)


def config_from_dict(values: Mapping[str, Any]) -> ViTConfig:
    """Reads a ``ViTConfig`` back from JSON, where tuples are lists and enums strings.

    Raises:
        ValueError: A value is missing or of another type, or the values contradict each other.
    """
    values = dict(values)
    if values.pop("pooled_queries_only", False):
        raise ValueError("pooled_queries_only is a rewrite, and no model was saved with it")
    return ViTConfig(
        **{
            **values,
            **{name: whole(values, name) for name in _COUNTS},
            "image_size": _pair(values, "image_size"),
            "patch_size": _pair(values, "patch_size"),
            "pooling": Pooling(text(values, "pooling")),
            "activation": Activation(text(values, "activation")),
            "norm_position": NormPosition(text(values, "norm_position")),
            "norm_kind": NormKind(text(values, "norm_kind")),
            "attention_scale": number(values, "attention_scale"),
            "head_activation": Activation(text(values, "head_activation")),
        }
    )


def _pair(values: Mapping[str, Any], key: str) -> tuple[int, int]:
    height, width = wholes(values, key, least=1)
    return height, width


def array_places(model_config: Mapping[str, Any]) -> dict[str, str]:
    """The place of each array in the HDF5 of a ``VisionTransformer`` that 0.1 saved.

    Keras files weights under the attributes of the model's class.

    Returns:
        A path such as ``blocks/transformer_block_1/q/vars/0`` by canonical name, in the order of
        the model's variables.
    """
    return {name: _DIRECT.get(name) or _place(name) for name in _array_names(model_config)}


def array_shapes(model_config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a ``VisionTransformer`` with this config."""
    shapes = expected_shapes(
        config_from_dict(model_config["vit_config"]), list(model_config["head_hidden"])
    )
    return {name: shapes[name] for name in _array_names(model_config)}


def _array_names(model_config: Mapping[str, Any]) -> Iterator[str]:
    eps = list(model_config["eps"])
    yield from ("prefix", "positions", "patch.weight", "patch.bias")
    for index in range(whole(mapping(model_config, "vit_config"), "depth")):
        block = f"blocks.{index}"
        for part in Block.LINEARS:
            yield from (f"{block}.{part}.weight", f"{block}.{part}.bias")
        for name in eps:
            if name.startswith(f"{block}."):
                yield from (f"{name}.gamma", f"{name}.beta")
    for name in ("input_norm", "norm", "pooled_norm"):
        if name in eps:
            yield from (f"{name}.gamma", f"{name}.beta")
    for name in (*(f"head_hidden.{i}" for i in range(len(model_config["head_hidden"]))), "head"):
        yield from (f"{name}.weight", f"{name}.bias")


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


def vit_from_arrays(model_config: Mapping[str, Any], arrays: Mapping[str, Array]) -> PlainViT:
    """Assembles a ViT from a ``VisionTransformer``'s config and its arrays by canonical name.

    Raises:
        ModelError: An array is missing, or config and shapes contradict each other.
    """

    def linear(name: str) -> Linear:
        return Linear(arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    def norm(name: str) -> Norm | None:
        if name not in eps:
            return None
        return Norm(arrays[f"{name}.gamma"], arrays[f"{name}.beta"], number(eps, name))

    def block(name: str) -> Block:
        parts: dict[str, Any] = {part: linear(f"{name}.{part}") for part in Block.LINEARS}
        for part in ("norm1", "norm2", "q_norm", "k_norm"):
            parts[part] = norm(f"{name}.{part}")
        return Block(**parts)

    try:
        eps = mapping(model_config, "eps")
        config = config_from_dict(mapping(model_config, "vit_config"))
        return PlainViT(
            config=config,
            patch=linear("patch"),
            prefix=arrays["prefix"],
            positions=arrays["positions"],
            blocks=tuple(block(f"blocks.{index}") for index in range(config.depth)),
            norm=norm("norm"),
            head=linear("head"),
            preprocessing=Preprocessing.from_dict(mapping(model_config, "preprocessing")),
            labels=texts(model_config, "labels"),
            input_norm=norm("input_norm"),
            pooled_norm=norm("pooled_norm"),
            head_hidden=tuple(
                linear(f"head_hidden.{index}")
                for index in range(len(model_config.get("head_hidden", ())))
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's config and weights do not fit: {error}") from error
