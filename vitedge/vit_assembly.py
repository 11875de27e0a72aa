"""A ViT put together from a saved config and its arrays by canonical name.

Free of engines: those who read a ``model.keras`` with Keras and those who read it without share
this code, so both get the same ViT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitedge.errors import ModelError
from vitedge.json_values import mapping, number, text, texts, whole, wholes
from vitedge.preprocess import Preprocessing
from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import Array, Block, Linear, Norm, ViT, ViTConfig

_COUNTS = (
    *("channels", "dim", "depth", "heads", "head_dim", "mlp_dim", "classes", "prefix_tokens"),
)


def config_from_dict(values: Mapping[str, Any]) -> ViTConfig:
    """Reads a ``ViTConfig`` back from JSON, where tuples are lists and enums strings.

    Raises:
        ValueError: A value is missing or of another type, or the values contradict each other.
    """
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


def array_names(model_config: Mapping[str, Any]) -> Iterator[str]:
    """Canonical names of all arrays of a ``VisionTransformer`` with this config."""
    yield from ("prefix", "positions")
    linears = ["patch", "head"]
    linears += [f"head_hidden.{index}" for index in range(len(model_config["head_hidden"]))]
    for index in range(whole(mapping(model_config, "vit_config"), "depth")):
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
        return Norm(arrays[f"{name}.gamma"], arrays[f"{name}.beta"], number(eps, name))

    def block(name: str) -> Block:
        parts: dict[str, Any] = {part: linear(f"{name}.{part}") for part in Block.LINEARS}
        for part in ("norm1", "norm2", "q_norm", "k_norm"):
            parts[part] = norm(f"{name}.{part}")
        return Block(**parts)

    try:
        eps = mapping(model_config, "eps")
        config = config_from_dict(mapping(model_config, "vit_config"))
        return ViT(
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
