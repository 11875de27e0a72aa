"""Probabilities in the logits' place, for clients that take the scores of a file as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.errors import ConversionError, UsageError
from vitedge.network.kinds import Activation
from vitedge.network.network import Network, Value
from vitedge.network.numerics import softmax
from vitedge.network.operators import Activate, Add, Array, Constant, Multiply, Softmax
from vitedge.network.tasks import Task
from vitedge.quantize import Range, Recipe
from vitedge.targets.scores import Scores

# What integer kernels of softmax make: steps of 1/32768.
_SHARES = Range.symmetric(32767 / 32768, 16)


def demand_logits(task: Task) -> None:
    """Refuses probabilities of what are not logits.

    Raises:
        UsageError: The task has none.
    """
    if not task.has_logits:
        raise UsageError(
            f"the model gives {task.words}, of which there are no probabilities; leave out "
            "--probabilities"
        )


def probabilities(task: Task, logits: Array) -> Array:
    """The softmax of logits ``(N, classes)``, or the sigmoid of each, as the task has it."""
    if task is Task.CLASSES:
        return softmax(logits)
    shares: Array = np.float32(0.5) * np.tanh(np.float32(0.5) * logits) + np.float32(0.5)
    return shares


def with_probabilities(network: Network, recipe: Recipe) -> tuple[Network, Recipe]:
    """The network with the probabilities as first output, and a recipe that knows of them.

    They come last, behind everything that looks at logits: rewrites, calibration, quantization.

    Raises:
        ConversionError: The probabilities are sigmoids, and the recipe is all-integer.
    """
    name = str(Scores.PROBABILITIES)
    if network.task is Task.CLASSES:
        added: tuple[Value, ...] = (Value(name, Softmax(), (network.logits,)),)
    elif recipe.tensors:
        raise ConversionError(
            f"{recipe.precision} has no sigmoid in integers; leave out --probabilities, or take "
            "fp32, fp16 or int8"
        )
    else:
        added = _sigmoid(name, network.logits)
    others = {key: each for key, each in network.outputs.items() if each is not network.logits}
    if recipe.tensors:
        recipe = replace(recipe, tensors={**recipe.tensors, name: _SHARES})
    values = (*network.values, *added)
    # Labels are held against logits, of which there are none any more; metadata has them.
    outputs = {name: added[-1], **others}
    return replace(network, values=values, outputs=outputs, labels=()), recipe


def _sigmoid(name: str, logits: Value) -> tuple[Value, ...]:
    """The sigmoid of each logit: (1 + tanh(x / 2)) / 2."""
    half = Value(f"{name}/half", Constant(np.full(1, 0.5, np.float32)))
    halved = Value(f"{name}/halved", Multiply(), (logits, half))
    curved = Value(f"{name}/tanh", Activate(Activation.TANH), (halved,))
    scaled = Value(f"{name}/scaled", Multiply(), (curved, half))
    return half, halved, curved, scaled, Value(name, Add(), (scaled, half))
