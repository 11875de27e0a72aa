"""Folds the normalisation of pixels into the layers that read them.

With pixel ``p`` of channel ``c``, mean ``m_c`` and standard deviation ``s_c``::

    ((p / 255 - m_c) / s_c) w  =  p (w / (255 s_c))  -  (m_c / s_c) w

so each row of the projection is scaled and the second term goes to the bias. The artefact then
takes raw pixels 0..255, which uint8 holds without any error. It holds where only linear
layers and convolutions read the pixels; not where those are padded, because zeros stand for black
before the normalisation and for the mean behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vitedge.network.channels import Uses, readers_of_vectors
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Convolution, Linear, Operator, Standardize


class FoldInputNormalization:
    """Raw pixels in, no normalisation operator."""

    name = "fold-input-normalization"
    order = 10
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        uses = Uses.of(network)
        folded: dict[Value, Operator] = {}
        gone = set()
        for value in network.values:
            if isinstance(value.operator, Standardize):
                layers = readers_of_vectors(value, uses)
                if layers and all(map(_takes_raw_pixels, layers)):
                    gone.add(value)
                    folded |= {each: _fold(each.operator, value.operator) for each in layers}

        def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
            if value in gone:
                return inputs[0]
            return Value(value.name, folded[value], inputs) if value in folded else None

        return rebuilt(network, change)


def _takes_raw_pixels(value: Value) -> bool:
    match value.operator:
        case Linear():
            return True
        case Convolution(padding=padding):
            return padding == ((0, 0), (0, 0))
        case _:
            return False


def _fold(layer: Operator, pixels: Standardize) -> Operator:
    means, stds = np.asarray(pixels.mean, np.float64), np.asarray(pixels.std, np.float64)
    match layer:
        case Linear():
            repeats = layer.weight.shape[0] // len(means)
            mean, std = np.tile(means, repeats), np.tile(stds, repeats)
            weight = layer.weight.astype(np.float64) / std[:, None]
            return Linear(
                (weight / 255).astype(np.float32), (layer.bias - mean @ weight).astype(np.float32)
            )
        case Convolution():
            seen = _channels_seen(layer) % len(means)
            weight = layer.weight.astype(np.float64) / stds[seen]
            offset = (means[seen] * weight).sum(axis=(0, 1, 2))
            return replace(
                layer,
                weight=(weight / 255).astype(np.float32),
                bias=(layer.bias - offset).astype(np.float32),
            )
        case _:
            raise AssertionError(f"{layer} reads no pixels")


def _channels_seen(layer: Convolution) -> npt.NDArray[np.int64]:
    """The input channel of each weight of a place, ``(channels / groups, outputs)``."""
    _, _, part, outputs = layer.weight.shape
    group = np.arange(outputs) // (outputs // layer.groups)
    channels: npt.NDArray[np.int64] = group * part + np.arange(part)[:, None]
    return channels


PLUGIN = FoldInputNormalization()
