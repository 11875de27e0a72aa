"""Probabilities in the logits' place, for clients that take the scores of a file as they are."""

from __future__ import annotations

from dataclasses import replace

from vitedge.network.network import Network, Value
from vitedge.network.operators import Softmax
from vitedge.quantize import Range, Recipe
from vitedge.targets.scores import Scores

# What integer kernels of softmax make: steps of 1/32768.
_SHARES = Range.symmetric(32767 / 32768, 16)


def with_probabilities(network: Network, recipe: Recipe) -> tuple[Network, Recipe]:
    """The network with the softmax of its logits as first output, and a recipe that knows of it.

    It comes last, behind everything that looks at logits: rewrites, calibration, quantization.
    """
    name = str(Scores.PROBABILITIES)
    value = Value(name, Softmax(), (network.logits,))
    others = {key: each for key, each in network.outputs.items() if each is not network.logits}
    if recipe.tensors:
        recipe = replace(recipe, tensors={**recipe.tensors, name: _SHARES})
    values = (*network.values, value)
    # Labels are held against logits, of which there are none any more; metadata has them.
    outputs = {name: value, **others}
    return replace(network, values=values, outputs=outputs, labels=()), recipe
