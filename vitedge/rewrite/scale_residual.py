"""Scales the residual stream down, so that norms can square it in half precision.

A LayerNorm does not see the scale of its input, if its epsilon is scaled along::

    LN(x; e) = LN(s x; s² e)

Whatever writes the stream is therefore scaled by ``s``, a power of two, which loses nothing. In
deep ViTs some channels of the stream reach several hundreds; squared and summed over the
channels, that is beyond half precision's 65504, and GPUs and NPUs return infinity or zeros. With
``s = 1/16`` there is 256 times the room above, and a stream of 0.01 still squares to a normal
number.

Only devices that compute in half precision need it, so it is applied only when asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Constant, Convolution, Linear, Norm, Operator
from vitedge.network.streams import Stream, streams

_SCALE = np.float32(1 / 16)


class ScaleResidual:
    """A stream that half precision can square."""

    name = "scale-residual"
    order = 80
    default = False

    def apply(self, network: Network) -> Network:
        """See the module's docstring; nothing is done where something else reads the stream."""
        changed: dict[Value, Operator] = {}
        for stream in streams(network, through_norms=False):
            if _is_scalable(stream):
                for value in stream.readers:
                    changed[value] = _reading(changed.get(value, value.operator))
                for value in stream.writers:
                    changed[value] = _writing(changed.get(value, value.operator))
        return with_operators(network, changed)


def _is_scalable(stream: Stream) -> bool:
    return all(isinstance(each.operator, Norm) for each in stream.readers) and all(
        isinstance(each.operator, Linear | Convolution | Constant | Norm) for each in stream.writers
    )


def _reading(norm: Operator) -> Operator:
    assert isinstance(norm, Norm)
    return replace(norm, eps=norm.eps * float(_SCALE) ** 2)


def _writing(operator: Operator) -> Operator:
    match operator:
        case Constant(values=values):
            return Constant(values * _SCALE)
        case Linear(weight=weight, bias=bias) | Convolution(weight=weight, bias=bias):
            return replace(operator, weight=weight * _SCALE, bias=bias * _SCALE)
        case Norm(gamma=gamma, beta=beta):
            return replace(operator, gamma=gamma * _SCALE, beta=beta * _SCALE)
        case _:
            raise AssertionError(f"{operator} writes no stream")


PLUGIN = ScaleResidual()
