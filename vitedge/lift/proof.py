"""Believing a lifted ViT only after its logits are the source's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitedge.errors import NotAViTError
from vitedge.lift.embedding import as_model_input
from vitedge.lift.input_range import InputRange
from vitedge.lift.probe import Experiments
from vitedge.vit import Array, ViT, forward

TOLERANCE = 1e-3
"""Largest difference of a logit over the range of the logits. Float32 models of 24 blocks reach
1e-5; models that compute in float16 inside differ by their own rounding, a few 1e-4."""


@dataclass(frozen=True)
class Proof:
    """The comparison.

    Attributes:
        images: How many images were compared.
        difference: Largest absolute difference of a logit.
        logit_range: Largest logit minus the smallest.
    """

    images: int
    difference: float
    logit_range: float

    @property
    def relative(self) -> float:
        """Difference over range."""
        return self.difference / max(self.logit_range, 1e-12)


def prove(experiments: Experiments, vit: ViT, taken: InputRange) -> Proof:
    """Compares logits on noise and on a smooth image.

    Raises:
        NotAViTError: They differ by more than ``TOLERANCE``.
    """
    pixels = _images(vit)
    graph, shape = experiments.graph, experiments.probe.image_shape
    run = experiments.between([graph.image], [graph.output])
    n = experiments.batch_for(len(pixels))
    wanted = []
    for start in range(0, len(pixels), n):
        part = pixels[start : start + n]
        padded = np.concatenate([part, np.repeat(part[-1:], n - len(part), axis=0)])
        answers = run(as_model_input(taken.apply(padded), shape))[0]
        wanted.append(answers.reshape(n, -1)[: len(part)])
    source = np.concatenate(wanted)
    ours = np.concatenate([forward(vit, image[None]) for image in pixels])
    proof = Proof(len(pixels), float(np.abs(ours - source).max()), float(np.ptp(source)))
    if not proof.difference <= TOLERANCE * max(
        proof.logit_range, float(np.abs(source).max()) * 1e-3
    ):
        raise NotAViTError(
            f"lifted, but its logits differ from the source's by {proof.difference:.2g} "
            f"({proof.relative:.1%} of their range)"
        )
    return proof


def _images(vit: ViT) -> Array:
    """Noise and a colour gradient: whole pixels 0..255 as float32."""
    height, width = vit.config.image_size
    channels = vit.config.channels
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slopes = rng.uniform(-1, 1, (2, channels))
    gradient = np.clip(128 + 127 * (y[..., None] * slopes[0] + x[..., None] * slopes[1]), 0, 255)
    noise = rng.integers(0, 256, (height, width, channels))
    return np.stack([noise, np.round(gradient)]).astype(np.float32)
