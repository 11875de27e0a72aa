"""Features beside the logits: what the head reads, by the head itself.

The identity is appended to the head's matrix. Whatever rewrites then do to the head's input
(rotate it, fold a norm's gamma and beta) they undo in these columns as in all others, so the
features come out as the model's author would have them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.vit import Linear, ViT


def feature_size(vit: ViT) -> int:
    """Width of the vector that the head's last layer reads."""
    return int(vit.head.weight.shape[0])


def with_features(vit: ViT) -> ViT:
    """A ViT whose logits are followed by what its head's last layer reads; it has no labels."""
    size = feature_size(vit)
    identity = np.eye(size, dtype=np.float32)
    head = Linear(
        np.concatenate([vit.head.weight, identity], axis=1),
        np.concatenate([vit.head.bias, np.zeros(size, np.float32)]),
    )
    config = replace(vit.config, classes=vit.config.classes + size)
    return replace(vit, config=config, head=head, labels=())
