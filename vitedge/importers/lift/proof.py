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


PART_TOLERANCE = 1e-4
"""Largest difference of a number within a part, over the range of what the part makes. Parts of a
few layers reach 1e-5."""


@dataclass(frozen=True)
class Proof:
    """The comparison.

    Attributes:
        random: The number of made-up images that were compared.
        real: The number of the user's images that were compared.
        difference: Largest absolute difference of a logit.
        logit_range: Largest logit minus the smallest.
        largest: Largest absolute logit.
        parts: The number of parts that were compared, each on the source's own values; see
            ``proof_in_parts``. 0 where the logits were enough.
        part_difference: The largest difference of a part over the range of what it makes.
    """

    random: int
    real: int
    difference: float
    logit_range: float
    largest: float
    parts: int = 0
    part_difference: float = 0.0

    @property
    def relative(self) -> float:
        """Difference over range."""
        return self.difference / max(self.logit_range, 1e-12)

    @property
    def holds(self) -> bool:
        """Whether the two compute the same; never when a logit is not a number."""
        if self.parts:
            return self.part_difference <= PART_TOLERANCE
        return self.difference <= TOLERANCE * max(self.logit_range, self.largest * 1e-3)

    def __str__(self) -> str:
        real = f" and {self.real} real" if self.real else ""
        words = (
            f"max logit difference {self.difference:.1g} ({self.relative:.1g} of the range) on "
            f"{self.random} random{real} images"
        )
        if not self.parts:
            return words
        return (
            f"{words}, as the source's own where its input is rounded; each of {self.parts} parts "
            f"on the source's values: at most {self.part_difference:.1g} of its range"
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
    return believed(compare_logits(experiments, network, taken, images, outputs))


def believed(proof: Proof) -> Proof:
    """The proof, if it holds.

    Raises:
        NotAViTError: The proof does not hold.
    """
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
    pixels = pixels_compared(network, images)
    outputs = {network.main_name: experiments.graph.output} if outputs is None else outputs
    wanted = source_outputs(experiments, taken.apply(pixels), list(outputs.values()))
    ours = evaluate_each(network, pixels)
    proofs = []
    for name, source in zip(outputs, wanted, strict=True):
        proof = Proof(
            random=len(pixels) - len(images),
            real=len(images),
            difference=float(np.abs(ours[name].reshape(source.shape) - source).max()),
            logit_range=float(np.ptp(source)),
            largest=float(np.abs(source).max()),
        )
        proofs.append(proof)
    return max(proofs, key=lambda each: (not each.holds, each.relative))


def pixels_compared(network: Network, images: Sequence[ImageLike]) -> Array:
    """Raw pixels of made-up images and behind them the user's, float32 ``(N, H, W, C)``."""
    real = network.preprocessing.batch(images).astype(np.float32)
    return np.concatenate([_images(network), real])


def source_outputs(experiments: Experiments, inputs: Array, tensors: Sequence[str]) -> list[Array]:
    """Tensors of the source, each flat, ``(N, numbers)``, of images as ``InputRange.apply`` makes.

    The source runs as many images at once as there are made-up ones, or as it takes.
    """
    run = experiments.between([experiments.graph.image], tensors)
    n = experiments.batch_for(_MADE_UP)
    wanted: list[list[Array]] = []
    for start in range(0, len(inputs), n):
        part = inputs[start : start + n]
        padded = np.concatenate([part, np.repeat(part[-1:], n - len(part), axis=0)])
        answers = run(as_model_input(padded, experiments.probe.image_shape))
        wanted.append([each.reshape(n, -1)[: len(part)] for each in answers])
    return [np.concatenate(each) for each in zip(*wanted, strict=True)]


_MADE_UP = 4


def _images(network: Network) -> Array:
    """Noise and colour gradients, two of each: whole pixels 0..255 as float32."""
    height, width, channels = network.image_shape
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    noise = rng.integers(0, 256, (2, height, width, channels))
    slopes = rng.uniform(-1, 1, (2, 2, 1, 1, channels))
    gradients = 128 + 127 * (y[..., None] * slopes[0] + x[..., None] * slopes[1])
    return np.concatenate([noise, np.round(np.clip(gradients, 0, 255))]).astype(np.float32)
