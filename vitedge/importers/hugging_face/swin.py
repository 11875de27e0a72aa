"""transformers' Swin and SwinV2, under the names that timm gives their weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from vitedge.elements.heads import classified
from vitedge.errors import NotAViTError
from vitedge.files.json_values import number, text, whole
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.hugging_face.trunk import activation_of, pair
from vitedge.importers.layers import torch_head
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.swin import Windows, read_swin
from vitedge.network.network import Builder, Value

KINDS = ("swin", "swinv2")
_EPS = 1e-5

# In the order in which they are tried.
_NAMES = (
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"embeddings\.norm", "patch_embed.norm"),
    (r"encoder\.layers\.", "layers."),
    (r"attention\.self\.continuous_position_bias_mlp", "attn.cpb_mlp"),
    (r"attention\.self\.query", "attn.q"),
    (r"attention\.self\.key", "attn.k"),
    (r"attention\.self\.value", "attn.v"),
    (r"attention\.self\.", "attn."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^layernorm", "norm"),
)
_BUFFERS = re.compile(r".*\.(relative_position_index|relative_coords_table)")


def as_timm_names(stored: Tensors, prefix: str) -> Tensors:
    """The weights by timm's names; the classifier keeps its own."""
    kept = [name for name in stored.names if not _BUFFERS.fullmatch(name)]
    return stored.renamed({_renamed(name.removeprefix(prefix)): name for name in kept})


def _renamed(name: str) -> str:
    for pattern, new in _NAMES:
        name = re.sub(pattern, new, name, count=1)
    # A stage of timm begins with the merging that ends one of transformers.
    return re.sub(
        r"^layers\.(\d+)\.downsample",
        lambda found: f"layers.{int(found[1]) + 1}.downsample",
        name,
    )


def swin_outputs(
    net: Builder,
    tensors: Tensors,
    values: Mapping[str, Any],
    preprocessing: Preprocessing,
    options: ImportOptions,
) -> dict[str, Value]:
    """The network's outputs: ``logits`` where there is a classifier, else ``embedding``.

    Args:
        net: The builder that makes the values.
        tensors: The tensors, by timm's names.
        values: The content of ``config.json``.
        preprocessing: The preprocessing of the images.
        options: The user's options.

    Raises:
        NotAViTError: The config says what vitedge lacks.
    """
    eps = number(values, "layer_norm_eps")
    if eps != _EPS:
        raise NotAViTError(f"a Swin whose norms have an epsilon of {eps:g} beside {_EPS:g}")
    if values.get("use_absolute_embeddings"):
        raise NotAViTError(
            "a Swin with absolute positions ('use_absolute_embeddings' of its config.json), which "
            "vitedge does not read by name: export the model to .onnx"
        )
    sizes = values.get("pretrained_window_sizes", ())
    windows = Windows(
        size=whole(values, "window_size", least=1),
        pretrained=tuple(sizes),
        activation=activation_of(values),
        side=_side_when_made(values) if text(values, "model_type") == "swinv2" else _shorter_side,
    )
    tensors.ignore("embeddings.mask_token")
    x = read_swin(net, tensors, windows, preprocessing)
    if not any(name.startswith("classifier.") for name in tensors.names):
        return {"embedding": x}
    head = torch_head(tensors, "classifier", options)
    return {"logits": classified(net, x, head.last, head.hidden, head.activation)}


def _shorter_side(_: int, grid: tuple[int, int]) -> int:
    """The bound of Swin's windows, as in ``set_shift_and_window_size``: the shorter side."""
    return min(grid)


def _side_when_made(values: Mapping[str, Any]) -> Callable[[int, tuple[int, int]], int]:
    """The bound of SwinV2's windows: the rows of the config's images, whatever size is given."""
    rows = pair(values["image_size"])[0] // pair(values["patch_size"])[0]

    def side(stage: int, _: tuple[int, int]) -> int:
        return rows >> stage

    return side
