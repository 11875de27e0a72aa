"""A ViT put together from a saved config and its arrays by canonical name.

Free of engines: those who read a ``model.keras`` with Keras and those who read it without share
this code, so both get the same ViT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitedge.errors import ModelError
from vitedge.preprocess import Preprocessing
from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import Array, Block, Linear, Norm, ViT, ViTConfig


def config_from_dict(values: Mapping[str, Any]) -> ViTConfig:
    """Reads a ``ViTConfig`` back from JSON, where tuples are lists and enums strings."""
    return ViTConfig(
        **{
            **values,
            "image_size": tuple(values["image_size"]),
            "patch_size": tuple(values["patch_size"]),
            "pooling": Pooling(values["pooling"]),
            "activation": Activation(values["activation"]),
            "norm_position": NormPosition(values["norm_position"]),
            "norm_kind": NormKind(values["norm_kind"]),
            "head_activation": Activation(values["head_activation"]),
        }
    )


def array_names(model_config: Mapping[str, Any]) -> Iterator[str]:
    """Canonical names of all arrays of a ``VisionTransformer`` with this config."""
    yield from ("prefix", "positions")
    linears = ["patch", "head"]
    linears += [f"head_hidden.{index}" for index in range(len(model_config["head_hidden"]))]
    for index in range(int(model_config["vit_config"]["depth"])):
        linears += [f"blocks.{index}.{part}" for part in Block.LINEARS]
    for name in linears:
        yield from (f"{name}.weight", f"{name}.bias")
    for name in model_config["eps"]:
        yield from (f"{name}.gamma", f"{name}.beta")


def vit_from_arrays(model_config: Mapping[str, Any], arrays: Mapping[str, Array]) -> ViT:
    """Assembles a ViT from a ``VisionTransformer``'s config and its arrays by canonical name.

    Raises:
        ModelError: An array is missing, or config and shapes contradict each other.
    """

    def linear(name: str) -> Linear:
        return Linear(arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    def norm(name: str) -> Norm | None:
        if name not in eps:
            return None
        return Norm(arrays[f"{name}.gamma"], arrays[f"{name}.beta"], float(eps[name]))

    def block(name: str) -> Block:
        parts: dict[str, Any] = {part: linear(f"{name}.{part}") for part in Block.LINEARS}
        for part in ("norm1", "norm2", "q_norm", "k_norm"):
            parts[part] = norm(f"{name}.{part}")
        return Block(**parts)

    try:
        eps = model_config["eps"]
        config = config_from_dict(model_config["vit_config"])
        return ViT(
            config=config,
            patch=linear("patch"),
            prefix=arrays["prefix"],
            positions=arrays["positions"],
            blocks=tuple(block(f"blocks.{index}") for index in range(config.depth)),
            norm=norm("norm"),
            head=linear("head"),
            preprocessing=Preprocessing.from_dict(model_config["preprocessing"]),
            labels=tuple(model_config["labels"]),
            input_norm=norm("input_norm"),
            pooled_norm=norm("pooled_norm"),
            head_hidden=tuple(
                linear(f"head_hidden.{index}")
                for index in range(len(model_config.get("head_hidden", ())))
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's config and weights do not fit: {error}") from error
