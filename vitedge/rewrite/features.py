"""Features beside the logits: what the head reads, by the head itself.

The identity is appended to the head's matrix, and what the head makes is cut in two. Whatever
rewrites then do to the head's input (rotate it, fold a norm's gamma and beta) they undo in these
columns as in all others, so the features come out as the model's author would have them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.errors import ConversionError
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Linear, Take
from vitedge.network.tasks import Task

FEATURES = "features"
"""The output's name."""


def feature_size(network: Network) -> int:
    """Width of the vector that the head's last layer reads.

    Raises:
        ConversionError: The logits are not what a linear layer makes of a vector.
    """
    return int(_head(network).weight.shape[0])


def with_features(network: Network, name: str = FEATURES) -> Network:
    """The network with one more output, ``features``: what its head's last layer reads.

    Args:
        network: The model.
        name: The name of the output.

    Raises:
        ConversionError: The logits are not what a linear layer makes of a vector.
    """
    head, classes = _head(network), network.classes
    size = feature_size(network)
    wide = Linear(
        np.concatenate([head.weight, np.eye(size, dtype=np.float32)], axis=1),
        np.concatenate([head.bias, np.zeros(size, np.float32)]),
    )
    logits = network.logits

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value is not logits:
            return None
        both = Value(value.name, wide, inputs)
        return Value("outputs/logits", Take(0, tuple(range(classes))), (both,))

    widened = rebuilt(network, change)
    (both,) = widened.logits.inputs
    places = tuple(range(classes, classes + size))
    features = Value(f"outputs/{name}", Take(0, places), (both,))
    return replace(
        widened,
        values=(*widened.values, features),
        outputs={**widened.outputs, name: features},
    )


def _head(network: Network) -> Linear:
    if network.task is Task.EMBEDDING:
        raise ConversionError(
            "the model gives its embedding as it is, and has no head that reads it; leave out "
            "--features"
        )
    head = network.outputs.get("logits")
    if head is None or not isinstance(head.operator, Linear) or len(head.shape) != 1:
        raise ConversionError(
            "the model's logits do not come from one linear layer on a vector, so it has no "
            "features to give; leave out --features"
        )
    return head.operator
