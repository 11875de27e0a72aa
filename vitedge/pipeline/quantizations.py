"""All the quantizations of one model, from one calibration."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Calibration
from vitedge.converters.tools import converter_for
from vitedge.errors import DataError
from vitedge.images.image_digests import smallest_digests
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.synthetic import synthetic_images
from vitedge.network.network import Network
from vitedge.quantize import Activations
from vitedge.quantize.break_even import INTEGERS_ALWAYS, BreakEven
from vitedge.quantize.calibrate import Statistics, calibrate
from vitedge.quantize.prefix_apart import PrefixApart, told_apart
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.shared import Shared
from vitedge.rewrite import PREFIX_APART
from vitedge.rewrite.learnt_grid import Groups, learnt_bits
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress

# Synthetic calibration images; more change the ranges of natural models by under 1 %.
_SYNTHETIC_IMAGES = 64

_Key: TypeAlias = tuple[Network, Precision, Activations, Groups | None, BreakEven, frozenset[str]]


class Quantizations:
    """Makes recipes when they are asked for; what they share is made once.

    Args:
        network: The model, already rewritten.
        preprocessing: The preprocessing of the model's source.
        images: Images to calibrate on; None means synthetic ones.
        progress: Told how far the calibration is.
        without: Exact moves that the quantizer leaves out.

    Raises:
        DataError: There is no image.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        images: ImageSet | None,
        progress: Progress,
        without: Collection[str] = (),
    ) -> None:
        self._without = without
        self._network, self._preprocessing, self._progress = network, preprocessing, progress
        self._kind = "synthetic" if images is None else "images"
        self.images = images or synthetic_images(preprocessing, _SYNTHETIC_IMAGES, seed=0)
        if not self.images.samples:
            raise DataError(f"'{self.images.name}' holds no images to calibrate on")
        self._statistics: dict[Network, Statistics] = {}
        self._shared = Shared()
        self._made: dict[_Key, Quantized] = {}

    def make(
        self,
        target: Format,
        precision: Precision,
        keep_float: Collection[str] = (),
        activations: Activations | None = None,
        network: Network | None = None,
    ) -> Quantized:
        """The recipe of a format in a precision, and the network that it is for.

        Args:
            target: The format.
            precision: The precision.
            keep_float: Layers that stay out of 8 bits.
            activations: The quantization of inputs of integer layers; None is the format's usual
                way.
            network: Another model whose linear layers have the very same inputs; None is the one
                that calibration runs.
        """
        network = network or self._network
        if precision.is_float:
            return quantize(network, precision)
        base = self._of_integers if precision.all_integer else self._network
        if precision.all_integer:
            network = base
        activations = activations or self.activations(target, precision)
        groups = self._groups(target, precision)
        # Other integers are the same for all formats, and found once.
        are_mixed = not precision.all_integer and not precision.row.grouped
        found = converter_for(target, precision).break_even
        even = found if are_mixed else INTEGERS_ALWAYS
        key = (network, precision, activations, groups, even, frozenset(keep_float))
        if key not in self._made:
            made = quantize(
                network,
                precision,
                self._seen(base),
                activations=activations,
                keep_float=keep_float,
                images=self.pixels,
                shared=self._shared,
                without=self._without,
                groups=groups,
                break_even=even,
            )
            self._made[key] = made if base is self._network else told_apart(made, self._network)
        return self._made[key]

    def _seen(self, network: Network) -> Statistics:
        """The statistics of a network; calibration runs once for each."""
        if network not in self._statistics:
            self._statistics[network] = calibrate(network, self.pixels())
        return self._statistics[network]

    @cached_property
    def _of_integers(self) -> Network:
        """The network that all-integer artefacts compute."""
        if PREFIX_APART in self._without or learnt_bits(self._network) is not None:
            return self._network
        return PrefixApart().apply(self._network, self.pixels())

    def activations(self, target: Format, precision: Precision) -> Activations:
        """Ways to quantize the inputs of integer layers."""
        if precision.all_integer:
            return Activations.STATIC
        if precision.rounds_inputs:
            return converter_for(target, precision).activations
        return Activations.PER_TOKEN

    def _groups(self, target: Format, precision: Precision) -> Groups | None:
        # Formats have the numbers of all other precisions in common.
        return converter_for(target, precision).groups if precision.row.grouped else None

    def pixels(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The calibration images as the model takes them, each ``(H, W, C)``."""
        total = len(self.images.samples)
        for done, sample in enumerate(self.images.samples):
            self._progress(f"calibrating on {self.images.name}", done, total)
            yield self._preprocessing(sample.image)

    @property
    def calibration(self) -> Calibration | None:
        """The statistics that the recipes rest on; None before the first that needs images."""
        for seen in self._statistics.values():  # all of the same images
            return Calibration(self._kind, seen.n, seen.sha256, self._digests)
        return None

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return smallest_digests(self.images) if self._kind == "images" else ()
