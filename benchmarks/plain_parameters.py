"""The parameters of a plain ViT out of its network, for what is made in another library's terms."""

from __future__ import annotations

from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, Value
from vitedge.network.operators import Activate, Constant, Linear, Norm, Standardize
from vitedge.network.patch_grid import patch_grid
from vitedge.network.structure import attentions
from vitedge.network.summary import summary


def parameters_of(network: Network) -> PlainViT:
    """The config and the arrays of a plain pre-norm ViT with a class token and one linear head.

    Raises:
        ValueError: The network is another.
    """
    values = {value.name: value for value in network.values}
    found, depth = summary(network), len(attentions(network))
    try:
        blocks = tuple(_block(values, f"blocks.{index}") for index in range(depth))
        vit = PlainViT(
            config=_config(network, values, blocks),
            patch=_linear(values["patch"]),
            prefix=_constant(values["prefix"]),
            positions=_constant(values["positions"]),
            blocks=blocks,
            norm=_norm(values["norm"]),
            head=_linear(values["head"]),
            preprocessing=network.preprocessing,
            labels=network.labels,
        )
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(f"the network is no plain ViT: {error}") from error
    kinds = found.activations, found.norms, values["blocks.0.q"].inputs[0].name
    wanted = ("gelu",), ("layer",), "blocks.0.norm1"
    if network_of(vit).parameters != network.parameters or kinds != wanted:
        raise ValueError("the network is no plain ViT: its parts are others, or elsewhere")
    return vit


def _config(network: Network, values: dict[str, Value], blocks: tuple[Block, ...]) -> ViTConfig:
    found = summary(network)
    grid = patch_grid(values["patch"])
    if grid is None or values["pooled/class"].shape != (found.dim,):
        raise ValueError("it has no patches or no class token")
    scale = next((values[name] for name in values if name.endswith("/scaled/by")), None)
    return ViTConfig(
        image_size=found.image_size,
        patch_size=grid.patch_size,
        channels=found.channels,
        dim=found.dim,
        depth=len(blocks),
        heads=found.heads[0],
        head_dim=found.head_dim[0],
        mlp_dim=found.mlp_dim,
        classes=network.classes,
        prefix_tokens=len(_constant(values["prefix"])),
        pooling=Pooling.CLASS,
        norm_position=NormPosition.PRE,
        norm_kind=NormKind.LAYER,
        attention_scale=1.0 if scale is None else float(_constant(scale)),
        raw_pixels=not any(isinstance(each.operator, Standardize) for each in network.values),
    )


def _block(values: dict[str, Value], name: str) -> Block:
    assert isinstance(values[f"{name}.fc1/gelu"].operator, Activate)
    norms = {part: _norm(values[f"{name}.{part}"]) for part in ("norm1", "norm2")}
    return Block(**norms, **{part: _linear(values[f"{name}.{part}"]) for part in Block.LINEARS})


def _linear(value: Value) -> Linear:
    assert isinstance(value.operator, Linear)
    return value.operator


def _norm(value: Value) -> Norm:
    assert isinstance(value.operator, Norm)
    return value.operator


def _constant(value: Value):  # type: ignore[no-untyped-def]  # noqa: ANN202
    assert isinstance(value.operator, Constant)
    return value.operator.values
