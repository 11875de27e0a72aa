"""Which networks are taken for vision transformers, by how they mix places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitedge.errors import NotAViTError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers.lift.transformer import refuse_without_attention
from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import (
    Activate,
    Convolution,
    Linear,
    Mean,
    Multiply,
    Norm,
    Pixels,
    Reshape,
    Transpose,
)

WIDTH, PLACES = 4, 64


def network(mix: Callable[[Builder, Value], Value]) -> Network:
    """A layer on each pixel, something that mixes ``(8, 8, 4)``, and a mean."""
    net = Builder()
    pixels = net("pixels", Pixels(8, 8, 3))
    x = mix(net, net("patch", linear(3, WIDTH), pixels))
    x = net("mean", Mean(0), net("flat", Reshape((PLACES, WIDTH)), x))
    logits = net("head", linear(WIDTH, 5), x)
    return net.network({"logits": logits}, Preprocessing(size=(8, 8)))


def linear(inputs: int, outputs: int) -> Linear:
    """A layer of ones."""
    return Linear(np.ones((inputs, outputs), np.float32), np.zeros(outputs, np.float32))


def depthwise(net: Builder, x: Value) -> Value:
    """A convolution of each channel."""
    weight = np.ones((3, 3, 1, WIDTH), np.float32)
    layer = Convolution(weight, np.zeros(WIDTH, np.float32), (1, 1), ((1, 1), (1, 1)), WIDTH)
    return net("depthwise", layer, x)


def excited(net: Builder, x: Value) -> Value:
    """Channels scaled by what all places say."""
    x = depthwise(net, x)
    mean = net("squeeze", Mean(0), net("rows", Reshape((PLACES, WIDTH)), x))
    gate = net("gate", Activate(Activation.SIGMOID), net("excite", linear(WIDTH, WIDTH), mean))
    return net("scaled", Multiply(), x, net("spread", Reshape((1, 1, WIDTH)), gate))


def modulated(net: Builder, x: Value) -> Value:
    """Places scaled by what is around them, as in FocalNet."""
    return net("modulated", Multiply(), net("query", linear(WIDTH, WIDTH), x), depthwise(net, x))


def weighed(net: Builder, x: Value) -> Value:
    """A weight of each place, as in SwiftFormer."""
    return net("weighed", Multiply(), depthwise(net, x), net("weights", linear(WIDTH, 1), x))


def mixed(net: Builder, x: Value) -> Value:
    """A layer across places behind a norm, as in MLP-Mixer."""
    norm = Norm(np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32), 1e-6)
    x = net("norm", norm, net("tokens", Reshape((PLACES, WIDTH)), x))
    turned = net("turned", Transpose((1, 0)), x)
    across = net("across", linear(PLACES, PLACES), turned)
    return net("map", Reshape((8, 8, WIDTH)), net("back", Transpose((1, 0)), across))


@pytest.mark.parametrize("mix", [modulated, weighed, mixed])
def test_what_multiplies_places_or_has_no_convolution_is_taken(
    mix: Callable[[Builder, Value], Value],
) -> None:
    refuse_without_attention(network(mix))


@pytest.mark.parametrize("mix", [depthwise, excited])
def test_convolutions_and_excitations_are_left_to_the_formats_quantizers(
    mix: Callable[[Builder, Value], Value],
) -> None:
    with pytest.raises(NotAViTError, match="no softmax attention"):
        refuse_without_attention(network(mix))
