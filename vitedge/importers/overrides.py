"""What a person says about a source, laid over what was read from it."""

from __future__ import annotations

from dataclasses import replace

from vitedge.elements.plain_vit import Block, PlainViT
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions
from vitedge.importers.positions import interpolate_positions
from vitedge.network.operators import Norm
from vitedge.preprocess import Preprocessing


def with_options(vit: PlainViT, options: ImportOptions) -> PlainViT:
    """The same model with a person's options laid over it.

    Another image size interpolates the positions and keeps the ratio of resize to crop.

    Raises:
        ModelError: An option contradicts the model.
    """
    if options.heads is not None and options.heads != vit.config.heads:
        raise ModelError(f"the model has {vit.config.heads} heads, not {options.heads}")
    if vit.config.raw_pixels and (options.mean is not None or options.std is not None):
        raise ModelError("mean and std are already folded into this model's patch projection")
    try:
        if options.norm_eps is not None:
            vit = _with_eps(vit, options.norm_eps)
        if options.activation is not None:
            vit = replace(vit, config=replace(vit.config, activation=options.activation))
        if options.image_size is not None:
            vit = _with_size(vit, options.image_size)
        preprocessing = _preprocessing(vit.preprocessing, options)
        labels = vit.labels if options.labels is None else options.labels
        return replace(vit, preprocessing=preprocessing, labels=labels)
    except ValueError as error:
        raise ModelError(f"the options do not fit the model: {error}") from error


def _with_eps(vit: PlainViT, eps: float) -> PlainViT:
    def norm(old: Norm) -> Norm:
        return replace(old, eps=eps)

    def optional(old: Norm | None) -> Norm | None:
        return None if old is None else norm(old)

    def block(old: Block) -> Block:
        return replace(
            old,
            norm1=norm(old.norm1),
            norm2=norm(old.norm2),
            q_norm=optional(old.q_norm),
            k_norm=optional(old.k_norm),
        )

    return replace(
        vit.map_blocks(block),
        input_norm=optional(vit.input_norm),
        norm=optional(vit.norm),
        pooled_norm=optional(vit.pooled_norm),
    )


def _with_size(vit: PlainViT, image_size: tuple[int, int]) -> PlainViT:
    old = vit.config
    config = replace(old, image_size=image_size)
    if config.pooled_dim != old.pooled_dim:
        raise ValueError(f"its head reads all {old.tokens} tokens, so the image size is fixed")
    resize = vit.preprocessing.resize
    if resize is not None:
        resize = round(resize * max(image_size) / max(old.image_size))
    return replace(
        vit,
        config=config,
        positions=interpolate_positions(vit.positions, old.grid, config.grid),
        preprocessing=replace(vit.preprocessing, size=image_size, resize=resize),
    )


def _preprocessing(old: Preprocessing, options: ImportOptions) -> Preprocessing:
    resize = old.resize if options.resize is None else options.resize or None
    return replace(
        old,
        resize=resize,
        interpolation=options.interpolation or old.interpolation,
        mean=old.mean if options.mean is None else options.mean,
        std=old.std if options.std is None else options.std,
    )
