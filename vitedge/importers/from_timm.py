"""timm's transformers over patches (github.com/huggingface/pytorch-image-models).

ViT, AugReg, DeiT, DeiT-III, CLIP, SigLIP, DINOv2, DINOv3, EVA, EVA-02, Perception Encoder, BEiT:
whatever ``timm/`` beside this file finds in the names of the weights. What names and shapes do not
tell is told by the architecture, in a hub folder's ``config.json`` beside the weights or by the
user, or by all registered architectures of such weights; see ``timm/architectures.py``.
Preprocessing is what the ``config.json`` says, else DeiT's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions
from vitedge.importers.layers import torch_patch_shape
from vitedge.importers.overrides import with_options
from vitedge.importers.reading.state_dict import in_checkpoint, open_checkpoint
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.timm.architectures import Weights, facts_of, is_packed, refuse_unknown
from vitedge.importers.timm.arguments import refuse_unknown_arguments, with_arguments
from vitedge.importers.timm.network import read_network
from vitedge.importers.timm.published import (
    arguments_of,
    labels_of,
    pooling_of,
    preprocessing_of,
    published_beside,
    weights_of,
)
from vitedge.importers.timm.tokens import PATCH, at_wanted_size, read_tokens
from vitedge.importers.timm.unknown import refuse_unknown_elements
from vitedge.network.network import Network
from vitedge.network.tasks import Task

_MARKS = {f"{PATCH}.weight", "blocks.0.norm1.weight"}
_HEAD = "head"


class TimmImporter:
    """Reads a ``.safetensors`` or ``.pth`` file, or a folder of timm's on the Hugging Face hub."""

    name = "timm"
    rank = 0

    def recognizes(self, path: Path) -> bool:
        """Weights under timm's names."""
        return in_checkpoint(weights_of(path), _MARKS)

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the weights; every one of them must find its place."""
        weights = weights_of(path)
        with open_checkpoint(weights, _MARKS, options, head=_HEAD) as opened:
            try:
                network = _network(opened.tensors, options, published_beside(weights))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise ModelError(f"the weights of '{path}' do not fit: {error}") from error
            opened.tensors.refuse_leftovers(_HEAD)
        return Imported(with_options(network, options), opened.read("timm"))


def _network(tensors: Tensors, options: ImportOptions, published: Mapping[str, Any]) -> Network:
    refuse_unknown_elements(tensors)
    channels, patch_size = torch_patch_shape(tensors, PATCH)
    if options.architecture is not None:
        refuse_unknown(options.architecture)
    weights = Weights(
        tensors.source,
        tensors.names,
        dim=tensors.shape(f"{PATCH}.weight")[0],
        patch=patch_size,
        is_packed=is_packed(lambda name: tensors.shape(name) if name in tensors else None),
    )
    architecture = options.architecture or published.get("architecture")
    architecture = architecture if isinstance(architecture, str) else None
    arguments = arguments_of(published)
    refuse_unknown_arguments(arguments, tensors.source)
    pool = pooling_of(published)
    arguments = arguments if pool is None else {**arguments, "global_pool": pool}
    facts = facts_of(weights, architecture, options.activation, arguments)
    facts = with_arguments(facts, arguments)
    tokens = read_tokens(tensors, facts, options, published)
    preprocessing = preprocessing_of(published, tokens.image_size, channels, options)
    tokens, preprocessing = at_wanted_size(tokens, facts, preprocessing, options)
    network = read_network(tensors, tokens, facts, options, published, preprocessing)
    if network.task is Task.EMBEDDING:
        return network
    return replace(network, labels=labels_of(published, network.classes))


PLUGIN = TimmImporter()
