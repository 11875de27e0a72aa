"""YOLOS of transformers: a ViT whose detection tokens become logits of classes, and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vitedge.elements.trunk import Trunk, tokens_of
from vitedge.errors import ModelError
from vitedge.files.json_values import whole
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.hugging_face.families import Family
from vitedge.importers.hugging_face.trunk import pair, read_trunk
from vitedge.importers.layers import torch_linear
from vitedge.importers.positions import Resampling, interpolate_positions
from vitedge.importers.reading.tensors import Tensors, count
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Array, Take

KIND = "yolos"
_BETWEEN = "encoder.mid_position_embeddings"


def yolos_outputs(
    net: Builder,
    tensors: Tensors,
    body: Tensors,
    values: Mapping[str, Any],
    family: Family,
    preprocessing: Preprocessing,
) -> dict[str, Value]:
    """The outputs: ``embedding``, the logits of each detection token, and ``pred_boxes``.

    Boxes are centre, width and height in shares of the image; the last class means that there is
    nothing.

    Args:
        net: The builder of the values.
        tensors: All weights.
        body: The weights of the trunk.
        values: The ``config.json``.
        family: The particulars of the ``model_type``.
        preprocessing: The preprocessing of the images.

    Raises:
        ModelError: Weights are missing, or contradict the config.
    """
    detections = whole(values, "num_detection_tokens", least=1)
    if body.shape("embeddings.detection_tokens")[1:2] != (detections,):
        raise ModelError(f"'{body.source}' has not the {detections} detection tokens of its config")
    trunk = read_trunk(body, values, family, preprocessing.size)
    if _BETWEEN in body:
        trunk = replace(trunk, between=_between(body, values, trunk, preprocessing.size))
    x = tokens_of(net, trunk, preprocessing)
    x = net("detections", Take(0, tuple(range(1, 1 + detections))), x)
    boxes = _head(net, x, tensors.below("bbox_predictor."), "boxes")
    return {
        "embedding": _head(net, x, tensors.below("class_labels_classifier."), "classes"),
        "pred_boxes": net("boxes/sigmoid", Activate(Activation.SIGMOID), boxes),
    }


def _between(
    body: Tensors, values: Mapping[str, Any], trunk: Trunk, size: tuple[int, int]
) -> tuple[Array, ...]:
    """The positions that all tokens get behind each block but the last."""
    ahead = len(trunk.prefix)
    stacked = body[_BETWEEN]
    patches = [(pair(values["image_size"])), size]
    old, grid = (
        (height // trunk.patch_size[0], width // trunk.patch_size[1]) for height, width in patches
    )
    made = []
    if not len(stacked):  # of a model of one block
        return ()
    for each in stacked.reshape(len(stacked), -1, stacked.shape[-1]):
        first, moved = (
            each[:1],
            interpolate_positions(
                np.ascontiguousarray(each[1 : len(each) - ahead + 1]), old, grid, Resampling.BICUBIC
            ),
        )
        made.append(np.concatenate([first, each[len(each) - ahead + 1 :], moved]))
    return tuple(made)


def _head(net: Builder, x: Value, layers: Tensors, name: str) -> Value:
    """Linear layers with ReLU between them."""
    depth = count(layers, "layers.{}.weight")
    for index in range(depth):
        x = net(f"{name}.{index}", torch_linear(layers, f"layers.{index}"), x)
        if index < depth - 1:
            x = net(f"{name}.{index}/relu", Activate(Activation.RELU), x)
    return x
