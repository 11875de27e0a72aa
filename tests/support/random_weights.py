"""Random weights of trained sizes, and pixels to go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import NormKind
from vitedge.network.operators import Array, Convolution, Linear, Norm

Option = TypeVar("Option")

SIDE = 8
PREPROCESSING = Preprocessing(
    size=(SIDE, SIDE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


@dataclass
class Weights:
    """Random operators out of one seed."""

    rng: np.random.Generator

    def array(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Array:
        return np.asarray(self.rng.standard_normal(shape) * scale + shift, np.float32)

    def linear(self, inputs: int, outputs: int) -> Linear:
        return Linear(
            self.array(inputs, outputs, scale=inputs**-0.5), self.array(outputs, scale=0.3)
        )

    def norm(self, width: int, kind: NormKind = NormKind.LAYER, *, plain: bool = False) -> Norm:
        gamma = np.ones(width, np.float32) if plain else self.array(width, scale=0.2, shift=1.0)
        beta = np.zeros(width, np.float32) if plain else self.array(width, scale=0.3)
        return Norm(gamma, beta, 1e-5, kind)

    def convolution(
        self, channels: int, outputs: int, size: int, *, groups: int = 1, padding: int = 0,
        stride: int = 1,
    ) -> Convolution:  # fmt: skip
        part = channels // groups
        return Convolution(
            self.array(size, size, part, outputs, scale=(size * size * part) ** -0.5),
            self.array(outputs, scale=0.3),
            (stride, stride),
            ((padding, padding), (padding, padding)),
            groups,
        )

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, options: Sequence[Option]) -> Option:
        return options[int(self.rng.integers(len(options)))]


def random_pixels(seed: int = 0, n: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)
