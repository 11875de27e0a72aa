"""Believing a lifted network only after its logits are the source's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.errors import NotAViTError
from vitedge.images.preprocess import ImageLike
from vitedge.importers.lift.embedding import as_model_input
from vitedge.importers.lift.input_range import InputRange
from vitedge.importers.lift.probe import Experiments
from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.quantize.cores import evaluate_each

TOLERANCE = 1e-3
"""Largest difference of a logit over the range of the logits. Float32 models of 24 blocks reach
1e-5; models that compute in float16 inside differ by their own rounding, a few 1e-4."""


@dataclass(frozen=True)
class Proof:
    """The comparison.

    Attributes:
        random: The number of made-up images that were compared.
        real: The number of the user's images that were compared.
        difference: Largest absolute difference of a logit.
        logit_range: Largest logit minus the smallest.
        largest: Largest absolute logit.
    """

    random: int
    real: int
    difference: float
    logit_range: float
    largest: float

    @property
    def relative(self) -> float:
        """Difference over range."""
        return self.difference / max(self.logit_range, 1e-12)

    @property
    def holds(self) -> bool:
        """Whether the two compute the same; never when a logit is not a number."""
        return self.difference <= TOLERANCE * max(self.logit_range, self.largest * 1e-3)

    def __str__(self) -> str:
        real = f" and {self.real} real" if self.real else ""
        return (
            f"max logit difference {self.difference:.1g} ({self.relative:.1g} of the range) on "
            f"{self.random} random{real} images"
        )


def prove(
    experiments: Experiments,
    network: Network,
    taken: InputRange,
    images: Sequence[ImageLike] = (),
    outputs: Mapping[str, str] | None = None,
) -> Proof:
    """Compares a lifted network with its source; see ``compare_logits``.

    Raises:
        NotAViTError: The logits differ by more than ``TOLERANCE``.
        DataError: An image cannot be read.
    """
    proof = compare_logits(experiments, network, taken, images, outputs)
    if not proof.holds:
        raise NotAViTError(
            f"lifted, but its logits differ from the source's by {proof.difference:.2g} "
            f"({proof.relative:.1%} of their range)"
        )
    return proof


def compare_logits(
    experiments: Experiments,
    network: Network,
    taken: InputRange,
    images: Sequence[ImageLike] = (),
    outputs: Mapping[str, str] | None = None,
) -> Proof:
    """Compares logits on noise, on smooth images and on the user's.

    Args:
        experiments: Access to the source.
        network: The network that the source is said to be.
        taken: The input that the source takes.
        images: The user's; they are prepared as the network says.
        outputs: The source's tensor of each of the network's outputs; None is the source's output
            and the main one. Of several the proof is that of the one that differs most.

    Raises:
        DataError: An image cannot be read.
    """
    made_up = _images(network)
    pixels = np.concatenate([made_up, network.preprocessing.batch(images).astype(np.float32)])
    graph, shape = experiments.graph, experiments.probe.image_shape
    outputs = {network.main_name: graph.output} if outputs is None else outputs
    run = experiments.between([graph.image], list(outputs.values()))
    n = experiments.batch_for(len(made_up))
    wanted: list[list[Array]] = []
    for start in range(0, len(pixels), n):
        part = pixels[start : start + n]
        padded = np.concatenate([part, np.repeat(part[-1:], n - len(part), axis=0)])
        answers = run(as_model_input(taken.apply(padded), shape))
        wanted.append([each.reshape(n, -1)[: len(part)] for each in answers])
    ours = evaluate_each(network, pixels)
    proofs = []
    for name, theirs in zip(outputs, zip(*wanted, strict=True), strict=True):
        source = np.concatenate(theirs)
        proof = Proof(
            random=len(made_up),
            real=len(images),
            difference=float(np.abs(ours[name].reshape(source.shape) - source).max()),
            logit_range=float(np.ptp(source)),
            largest=float(np.abs(source).max()),
        )
        proofs.append(proof)
    return max(proofs, key=lambda each: (not each.holds, each.relative))


def _images(network: Network) -> Array:
    """Noise and colour gradients, two of each: whole pixels 0..255 as float32."""
    height, width, channels = network.image_shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    noise = rng.integers(0, 256, (2, height, width, channels))
    slopes = rng.uniform(-1, 1, (2, 2, 1, 1, channels))
    gradients = 128 + 127 * (y[..., None] * slopes[0] + x[..., None] * slopes[1])
    return np.concatenate([noise, np.round(np.clip(gradients, 0, 255))]).astype(np.float32)
