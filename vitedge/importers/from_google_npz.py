"""The original checkpoints of google-research/vision_transformer: ViT and AugReg, ``.npz``.

Shapes tell everything, the heads too. The original code computes GELU by its tanh approximation
(Flax's default), stretches images to the input size and scales pixels to -1..1.
"""

from __future__ import annotations

from pathlib import Path

from vitedge.elements.kinds import Pooling
from vitedge.elements.plain_vit import Block, PlainViT, ViTConfig
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import class_token_and_patches, folded_linear, rows
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.npz_file import npz_names, open_npz
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.kinds import Activation
from vitedge.network.operators import Linear, Norm

_ROOTS = ("", "opt/target/", "params/")
_POSITIONS = "Transformer/posembed_input/pos_embedding"
_BLOCK = "Transformer/encoderblock_{}/"
_ATTENTION = "MultiHeadDotProductAttention_1/"
_MARKS = {"embedding/kernel", "cls", _POSITIONS, f"{_BLOCK.format(0)}{_ATTENTION}query/kernel"}
_EPS = 1e-6
_HALF = 0.5


class GoogleNpzImporter:
    """Reads an ``.npz`` of weights, with or without the optimizer's around them."""

    name = "google-npz"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Arrays under the names of the original Flax modules."""
        return _root(npz_names(path)) is not None

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        with open_npz(path) as tensors:
            root = _root(tensors.names)
            if root is None:
                raise ModelError(f"'{path}' is not a checkpoint of the original ViT code")
            # A training checkpoint holds the optimizer's moments beside its target.
            tensors.ignore(*(name for name in tensors.names if not name.startswith(root)))
            try:
                vit = _vit(tensors.below(root), options)
            except (ValueError, IndexError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            tensors.refuse_leftovers()
        return Imported(with_options(network_of(vit), options), "by name: google-npz")


def _root(names: frozenset[str]) -> str | None:
    for root in _ROOTS:
        if {root + name for name in _MARKS} <= names:
            return root
    return None


def _vit(tensors: Tensors, options: ImportOptions) -> PlainViT:
    depth = count(tensors, _BLOCK + "LayerNorm_0/scale")
    blocks = tuple(_block(tensors.below(_BLOCK.format(index))) for index in range(depth))
    height, width, channels, dim = tensors.shape("embedding/kernel")
    class_token, positions = rows(tensors, "cls"), rows(tensors, _POSITIONS)
    tokens = class_token_and_patches(class_token, positions, (height, width), options)
    if not blocks:
        raise ModelError(f"'{tensors.source}' has no whole block")
    heads, head_dim = tensors.shape(f"{_BLOCK.format(0)}{_ATTENTION}query/kernel")[1:]
    if not head_dim:
        raise ModelError(f"'{tensors.source}' has heads of no channels")
    head = _linear(tensors, "head", 1)
    return PlainViT(
        config=ViTConfig(
            image_size=tokens.image_size,
            patch_size=tokens.patch_size,
            channels=channels,
            dim=dim,
            depth=depth,
            heads=heads,
            head_dim=head_dim,
            mlp_dim=blocks[0].fc1.weight.shape[1],
            classes=head.weight.shape[1],
            pooling=Pooling.CLASS,
            activation=Activation.GELU_TANH,
            attention_scale=head_dim**-0.5,
        ),
        patch=_linear(tensors, "embedding", 3),
        prefix=tokens.prefix,
        positions=tokens.positions,
        blocks=blocks,
        norm=_norm(tensors, "Transformer/encoder_norm"),
        head_hidden=(_linear(tensors, "pre_logits", 1),) if "pre_logits/kernel" in tensors else (),
        head=head,
        preprocessing=Preprocessing(
            size=tokens.image_size,
            channels=channels,
            interpolation=Interpolation.BILINEAR,
            mean=(_HALF,) * channels,
            std=(_HALF,) * channels,
        ),
    )


def _block(tensors: Tensors) -> Block:
    attention = tensors.below(_ATTENTION)
    return Block(
        norm1=_norm(tensors, "LayerNorm_0"),
        q=_linear(attention, "query", 1),
        k=_linear(attention, "key", 1),
        v=_linear(attention, "value", 1),
        out=_linear(attention, "out", 2),
        norm2=_norm(tensors, "LayerNorm_2"),
        fc1=_linear(tensors, "MlpBlock_3/Dense_0", 1),
        fc2=_linear(tensors, "MlpBlock_3/Dense_1", 1),
    )


def _linear(tensors: Tensors, name: str, input_axes: int) -> Linear:
    return folded_linear(tensors[f"{name}/kernel"], tensors[f"{name}/bias"], input_axes)


def _norm(tensors: Tensors, name: str) -> Norm:
    return Norm(tensors[f"{name}/scale"], tensors[f"{name}/bias"], _EPS)


PLUGIN = GoogleNpzImporter()
