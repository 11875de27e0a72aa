"""Computes a recipe's effect on the logits in NumPy, before there is an artefact.

Integers times integers are exact in every runtime, so a float product of fake-quantized numbers
is what the artefact computes, to float32 rounding; all other operators stay in float.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Convolution, Linear, Operator
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.ranges import (
    dynamically_quantized,
    fake_quantized,
    token_scaled_quantized,
)
from vitedge.quantize.trace import Kind, Tensor, trace


def simulate(
    network: Network, recipe: Recipe, images: npt.NDArray[Any], *, activations: Activations
) -> Array:
    """The main output ``(N, ...)``; see ``simulate_outputs``."""
    return simulate_outputs(network, recipe, images, activations=activations)[network.main_name]


def simulate_outputs(
    network: Network, recipe: Recipe, images: npt.NDArray[Any], *, activations: Activations
) -> dict[str, Array]:
    """Each output ``(N, ...)`` of an artefact that follows a recipe, by name.

    Args:
        network: The model that the recipe was made for.
        recipe: Integer weights and static ranges.
        images: Pixels ``(N, H, W, C)``.
        activations: The quantization of inputs without a static range; for ``STATIC`` they stay
            float. Images without one that integer convolutions read are rounded between their own
            extremes.
    """
    if recipe.tensors:
        return _simulate_integers(network, recipe, images)

    def quantize_input(name: str, x: Array) -> Array | None:
        if name not in recipe.weights:
            return None
        if name in recipe.token_scaled:
            return token_scaled_quantized(x, recipe.inputs[name], recipe.token_scaled[name])
        if name in recipe.inputs:
            return fake_quantized(x, recipe.inputs[name])
        if activations is Activations.STATIC:
            return None
        # An image of a batch is a tensor of its own.
        per_tensor = activations is Activations.PER_TENSOR
        axes = tuple(range(1, x.ndim)) if per_tensor else (-1,)
        return dynamically_quantized(x, axes)

    def quantize_image(name: str, x: Array) -> Array | None:
        if name not in recipe.weights:
            return None
        if name in recipe.inputs:
            return fake_quantized(x, recipe.inputs[name])
        return dynamically_quantized(x, (1, 2, 3))

    network = with_integer_weights(network, recipe)
    return evaluate(network, images, quantize_input, quantize_image)


def _simulate_integers(
    network: Network, recipe: Recipe, images: npt.NDArray[Any]
) -> dict[str, Array]:
    def made(tensor: Tensor, x: Array) -> Array:
        # Converters take as many ranges as these need (see ``tflite_integer``), or one operator.
        if tensor.kind is Kind.DEVIATION:
            return x
        return fake_quantized(x, recipe.tensors[tensor.name])

    def entering(name: str, x: Array) -> Array:
        return fake_quantized(x, recipe.inputs[name])

    return trace(with_integer_weights(network, recipe), images, made, entering)


def with_integer_weights(network: Network, recipe: Recipe) -> Network:
    """The network whose weights are what the recipe's integers stand for."""
    changed: dict[Value, Operator] = {}
    for value in network.values:
        weight = recipe.weights.get(value.name)
        match value.operator:
            case Linear() | Convolution() as layer if weight is not None:
                values = weight.dequantized().reshape(layer.weight.shape)
                changed[value] = replace(layer, weight=values)
    return with_operators(network, changed)
