"""`--width`: a model with fewer heads and hidden channels, and what that alone changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.narrowing import Narrowing
from vitedge.errors import UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.synthetic import synthetic_images
from vitedge.network.agreement import agreement
from vitedge.network.network import Network
from vitedge.pipeline.compared_images import ImagesInUse, divide
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.cores import forward_each
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.narrowing import chosen, removed
from vitedge.rewrite.pooled_queries_only import PooledQueriesOnly
from vitedge.targets.scores import Scores
from vitedge.terminal.progress import Progress, silent

# Which channels matter is the same after some dozen photos; least squares takes a few more.
_PHOTOS, _SYNTHETIC = 128, 32

# Enough to see that narrowing is wrong for a model; how many points it costs, ``bench`` says.
_COMPARED = 32


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A narrower model.

    Attributes:
        network: The model.
        described: The parts that are gone, and the change of the answers.
    """

    network: Network
    described: Narrowing


def narrowed_as(
    network: Network, share: float, images: ImagesInUse, progress: Progress = silent
) -> Narrowed:
    """The model without the heads and hidden channels that its outputs miss least.

    Args:
        network: Left unchanged.
        share: Multiply-accumulates that may be left, over those that there are; 1 removes nothing.
        images: The images of the calibration measure which parts are missed, and the images to
            compare on count answers; synthetic ones stand in for the former, these for the latter.
        progress: Told how far the measuring is.

    Raises:
        ConversionError: Nothing can be removed, or not so much.
        DataError: An image cannot be read.
    """
    # What nobody reads is not computed in the end, so it is no work to save.
    working = PooledQueriesOnly().apply(network)
    typical = _typical(network, images.calibration)
    statistics = _statistics(network, typical, progress)
    removals = chosen(network, statistics, share, working)
    made = removed(network, statistics, removals)
    left = PooledQueriesOnly().apply(made).macs / working.macs
    samples = (images.compared or typical).samples[:_COMPARED]
    pixels = network.preprocessing.batch([sample.image for sample in samples])
    before, after = (forward_each(each, pixels) for each in (network, made))
    described = Narrowing(
        removals,
        round(left, 4),
        "synthetic" if images.calibration is None else "images",
        statistics.n,
        statistics.sha256,
        agreement(network.task, after, before, Scores.LOGITS.middle),
        len(samples),
    )
    return Narrowed(made, described)


def narrowed_again(network: Network, described: Narrowing, calibration: ImageSet | None) -> Network:
    """The model without the channels that an artefact says.

    What remains is fitted again to the images that it was fitted to.

    Args:
        network: The model that the artefact was made of.
        described: The parts that are gone.
        calibration: The images that the artefact was calibrated on; None if they were synthetic.

    Raises:
        UsageError: The artefact was fitted to other images, or no images are given.
    """
    if described.images == "synthetic":
        tried: tuple[ImageSet | None, ...] = (None,)
    elif calibration is None:
        raise UsageError(
            "the artefact has fewer heads or hidden channels than its model, and the others were "
            "fitted to photos: give these with --calibration"
        )
    else:  # some may have been kept out of the calibration, to compare on
        tried = (calibration, divide(calibration).calibration)
    for images in tried:
        statistics = _statistics(network, _typical(network, images), silent)
        if statistics.sha256 == described.sha256:
            return removed(network, statistics, described.removed)
    raise UsageError(
        f"the artefact was not fitted to {'these photos' if calibration else 'these pixels'}: give "
        "with --calibration those that it was made with"
    )


def _typical(network: Network, images: ImageSet | None) -> ImageSet:
    return images or synthetic_images(network.preprocessing, _SYNTHETIC, seed=0)


def _statistics(network: Network, images: ImageSet, progress: Progress) -> Statistics:
    count = len(images.samples)
    numbers = np.linspace(0, count - 1, min(count, _PHOTOS)).round().astype(np.intp)

    def pixels() -> Iterator[npt.NDArray[np.uint8]]:
        for done, number in enumerate(numbers):
            progress("measuring which channels matter", done, len(numbers))
            yield network.preprocessing(images.samples[number].image)

    return calibrate(network, pixels())
