"""A distillation token beside the class token, each with its own head (arXiv:2012.12877).

The two heads are one layer that reads both tokens behind one another; the model answers their mean.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.errors import UsageError
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Concatenate, Constant, Linear, Norm, Reshape, Take
from vitedge.network.refit import refitted

if TYPE_CHECKING:
    from vitedge.in_keras.model import NetworkModel


def reads_two_tokens(network: Network) -> bool:
    """Whether the logits are one layer of the first two tokens."""
    taken = _taken_tokens(network)
    return taken is not None and taken.shape[0] == 2


def answers_of_each(model: NetworkModel, features: Any) -> tuple[Any, Any]:
    """The logits of the class token and of the distillation token; their mean is the model's.

    Args:
        model: One that reads two tokens.
        features: The features that its head reads, ``(N, 2 * dim)``.
    """
    from keras import ops

    head = model.weights_of(model.form.logits)
    halves = ops.split(features, 2, axis=-1)
    weights = ops.split(ops.convert_to_tensor(head["weight"]), 2, axis=0)
    bias = ops.convert_to_tensor(head["bias"])
    of_class, of_teacher = (
        2 * ops.matmul(half, weight) + bias for half, weight in zip(halves, weights, strict=True)
    )
    return of_class, of_teacher


def with_distillation_token(network: Network) -> Network:
    """The model with a second token and a head of its own for it.

    The new token is a copy of the class token, its head one of the class token's; what the model
    answers is the mean of both. A model that has the token already is returned as it is.

    Raises:
        UsageError: The model does not read its class token alone.
    """
    taken = _taken_tokens(network)
    if taken is not None and taken.shape[0] == 2:
        return network
    tokens = next((each for each in network.values if _starts_with_tokens(each)), None)
    if taken is None or taken.shape[0] != 1 or tokens is None:
        raise UsageError(
            "a distillation token goes beside a class token with a plain head; this model's logits "
            "are made otherwise"
        )
    network = _joined_last(network, taken)
    prefix, head = tokens.inputs[0], network.logits
    assert isinstance(prefix.operator, Constant)
    assert isinstance(head.operator, Linear)
    learnt = prefix.operator.values
    half = (head.operator.weight / 2).astype(np.float32)
    try:
        return refitted(
            network,
            {
                prefix: Constant(np.concatenate([learnt[:1], learnt])),
                taken: Take(0, (0, 1)),
                head: replace(head.operator, weight=np.concatenate([half, half])),
            },
        )
    except ValueError as error:
        raise UsageError(f"there is no place for a distillation token: {error}") from error


def _starts_with_tokens(value: Value) -> bool:
    is_sequence = isinstance(value.operator, Concatenate) and value.operator.axis == 0
    return is_sequence and value.inputs[0].is_constant and len(value.shape) == 2


def _taken_tokens(network: Network) -> Value | None:
    """The first tokens, if one layer makes the logits of them and of nothing else."""
    if not isinstance(network.logits.operator, Linear) or len(network.logits.shape) != 1:
        return None
    value = network.logits.inputs[0]
    while isinstance(value.operator, Reshape | Norm):
        value = value.inputs[0]
    match value.operator:
        case Take(axis=0, places=places) if places == tuple(range(len(places))):
            return value if len(value.shape) == 2 else None
        case _:
            return None


def _joined_last(network: Network, taken: Value) -> Network:
    """The same network with norms before tokens become one vector, not behind it."""
    chain = [network.logits.inputs[0]]
    while chain[-1] is not taken:
        chain.append(chain[-1].inputs[0])
    norms = [each for each in reversed(chain) if isinstance(each.operator, Norm)]
    joins = [each for each in reversed(chain) if isinstance(each.operator, Reshape)]
    if not norms or not joins:
        return network

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value is not chain[0]:
            return None
        made = taken
        for norm in norms:
            made = Value(norm.name, norm.operator, (made,))
        return Value(joins[0].name, Reshape(value.shape), (made,))

    return rebuilt(network, change)
