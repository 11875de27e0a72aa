"""Weights that learn behind the rounding that their artefact will have.

The forward pass sees integers times scales; the gradient passes the rounding as if it were not
there (straight-through estimator, arXiv:1308.3432). Scales learn beside the weights (LSQ,
arXiv:1902.08153), as logarithms, so that a step is a share of them. What integers a weight stands
for, and that scales have half precision, is what ``rewrite.learnt_grid`` reads back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitedge.network.network import Network, Value
from vitedge.network.operators import Norm
from vitedge.network.structure import feeds_product, readers
from vitedge.quantize.ranges import LEVELS
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS, LEAST_SCALE
from vitedge.train.optimizer import Group

if TYPE_CHECKING:
    from vitedge.in_keras.model import NetworkModel
    from vitedge.train.grid_start import GridStart

# Adam moves what it trains by about the learning rate in a step. Weights are a tenth or so of 1,
# logarithms of scales mean shares of 1.
_SCALE_RATE = 10.0


class IntegerGrid:
    """The grid of a model's inner layers, and its scales.

    Args:
        model: The Keras model of ``start.network``. What its norms multiply and add does not learn
            where it is 1 and 0: the layers behind can learn that, and in the artefact it would be
            an operator.
        start: The start of training.
    """

    def __init__(self, model: NetworkModel, start: GridStart) -> None:
        import keras

        self._bits, self._rounded_inputs = start.bits, start.rounded_inputs
        self._kernels: list[Any] = []
        self._scales: list[Any] = []
        for name, scales in start.scales.items():
            self._kernels.append(model.variable(f"{name}.weight"))
            label = f"{name}.log_scale".replace("/", ".")
            self._scales.append(keras.Variable(np.log(scales), name=label))
        for value in _plain_norms(start.network):
            for one in model.weights_of(value).values():
                one.trainable = False

    def with_scales(self, parts: Sequence[Group]) -> tuple[Group, ...]:
        """Groups of variables that learn, and further ones for the scales of their kernels."""
        of_kernel = {
            id(kernel): scale for kernel, scale in zip(self._kernels, self._scales, strict=True)
        }
        scales = [
            Group(
                tuple(of_kernel[id(one)] for one in part.variables if id(one) in of_kernel),
                part.rate * _SCALE_RATE,
            )
            for part in parts
        ]
        return (*parts, *(group for group in scales if group.variables))

    def weights(self) -> list[tuple[Any, Any]]:
        """Each kernel, and the tensor ``(inputs, outputs)`` that it is rounded to."""
        return [
            (kernel, rounded(kernel.value, scale.value, self._bits))
            for kernel, scale in zip(self._kernels, self._scales, strict=True)
        ]

    def entering(self, name: str, x: Any) -> Any:
        """The values that enter a linear layer, given by its name."""
        return rounded_tokens(x) if name in self._rounded_inputs else x


def rounded(weight: Any, log_scale: Any, bits: int) -> Any:
    """The weight on its grid.

    Args:
        weight: float32 ``(inputs, outputs)``.
        log_scale: Logarithm of the step, float32 ``(groups, outputs)``.
        bits: The width of the integers, within ``INTEGER_LIMITS``.
    """
    import tensorflow as tf

    scale = _through(_half, tf.exp(log_scale))
    steps = tf.repeat(scale, weight.shape[0] // scale.shape[0], axis=0)
    low, high = INTEGER_LIMITS[bits]
    return _through(tf.round, tf.clip_by_value(weight / steps, float(low), float(high))) * steps


def rounded_tokens(x: Any) -> Any:
    """Rounds the last axis like ``quantize.ranges.dynamically_quantized``; gradients pass."""
    import tensorflow as tf

    def kept(x: Any) -> Any:
        low = tf.minimum(tf.reduce_min(x, axis=-1, keepdims=True), 0.0)
        high = tf.maximum(tf.reduce_max(x, axis=-1, keepdims=True), 0.0)
        scale = (high - low) / (LEVELS - 1)
        scale = tf.where(scale > 0, scale, tf.ones_like(scale))
        zero = tf.round(-low / scale)
        return (tf.clip_by_value(tf.round(x / scale) + zero, 0.0, LEVELS - 1) - zero) * scale

    return _through(kept, x)


def _half(scale: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.cast(tf.maximum(scale, LEAST_SCALE), tf.float16), tf.float32)


def _through(change: Callable[[Any], Any], x: Any) -> Any:
    """``change(x)``, with the gradient of ``x``."""
    import tensorflow as tf

    return tf.grad_pass_through(change)(x)


def _plain_norms(network: Network) -> list[Value]:
    """Norms that multiply by 1 and add 0; not those of queries and keys, which no layer reads."""
    read = readers(network)
    return [
        value
        for value in network.values
        if isinstance(value.operator, Norm)
        and value.operator.is_plain
        and not feeds_product(value, read)
    ]
