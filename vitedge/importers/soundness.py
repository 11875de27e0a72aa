"""Visible faults of a model's weights, whatever they were read from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vitedge.errors import ModelError
from vitedge.importers.lift.ending import unknown_task
from vitedge.network.blocks import blocks
from vitedge.network.network import Network, Value
from vitedge.network.operators import Constant, Linear, Norm
from vitedge.network.tasks import Task

_OF_CLASSES = (None, "linear", "softmax", "log_softmax")
"""Keras's names of what a classifier may end in."""


def refuse_broken(path: Path, network: Network) -> None:
    """Refuses a model some of whose numbers are not finite.

    Importers refuse those of the file where they read them; these became so on the way, or lie in
    a model that was lifted.

    Raises:
        ModelError: An array holds NaN or infinity, or an epsilon or a factor is none.
    """
    for name, array in network.named_arrays():
        broken = array.size - int(np.isfinite(array).sum())
        if broken:
            raise ModelError(
                f"'{name}' of '{path}' holds NaN or infinity ({broken} of {array.size} values): "
                "the training that made it diverged, or the file is damaged"
            )
    for value in network.values:
        match value.operator:
            case Norm(eps=eps):
                what, number, least = f"the epsilon of '{value.name}'", eps, 0.0
            case Constant(values=values) if not values.shape:
                what, number, least = f"the factor '{value.name}'", float(values), -np.inf
            case _:
                continue
        if not np.isfinite(np.float32(number)) or number < least:
            raise ModelError(f"{what} of '{path}' is {number}, which computes nothing")


def zero_parts(network: Network) -> tuple[str, ...]:
    """The head and the blocks whose linear layers hold only zeros, in words.

    A checkpoint that was cut short, or a head that was never trained, is so; it can be converted,
    but answers the same for every image or skips the block.
    """
    zeros = []
    if _is_zero([network.main]):
        zeros.append("the head")
    parts = enumerate(blocks(network))
    return (*zeros, *(f"block {index}" for index, part in parts if _is_zero(part.values)))


def _is_zero(values: Iterable[Value]) -> bool:
    layers = [each.operator for each in values if isinstance(each.operator, Linear)]
    return bool(layers) and not any(layer.weight.any() for layer in layers)


def task_of_activation(what: str, activation: object, classes: int, task: Task | None) -> Task:
    """The meaning of a Keras classifier's outputs, as the activation in its config has it.

    Args:
        what: The model, for messages.
        activation: Keras's name of the last layer's function, or its config.
        classes: The number of outputs.
        task: The meaning of the outputs by the user's word.

    Raises:
        ModelError: The activation is that of no task, and the user says none.
    """
    if task is not None:
        return task
    if isinstance(activation, dict):
        activation = activation.get("config")
    if activation == "sigmoid":
        return Task.BINARY if classes == 1 else Task.LABELS
    if activation not in _OF_CLASSES:
        raise unknown_task(what, f"ends in {activation}", Task.CLASSES, Task.LABELS, Task.NUMBERS)
    return Task.CLASSES
