"""A model that is read once, for all that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import sha256_of
from vitedge.bench.reference import ModelReference, reference_from_network
from vitedge.bench.request import generic_reference
from vitedge.converters.generic.model import GenericModel, open_generic
from vitedge.errors import NotAViTError
from vitedge.importers import Imported, ImportOptions
from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.pipeline.compared_images import ImagesInUse
from vitedge.pipeline.narrowing import Narrowed, narrowed_as
from vitedge.pipeline.quantizations import Quantizations
from vitedge.pipeline.source_check import read_compared
from vitedge.pipeline.token_merging import Merged, TokenOptions, merged_as
from vitedge.quantize.cores import forward_each
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.features import with_features
from vitedge.rewrite.further_outputs import with_outputs
from vitedge.terminal.progress import Progress, silent

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Rewriting:
    """The rewrites that a network goes through before it is quantized.

    Attributes:
        without: Names of those to leave out.
        extra: Names of those to apply although they are not default.
        features: Give it what the head reads as a second output.
        also: Names of values that become further outputs.
    """

    without: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    features: bool = False
    also: tuple[str, ...] = ()


class Prepared(NamedTuple):
    """A model under some rewrites."""

    network: Network
    rewrites: tuple[str, ...]
    quantizations: Quantizations


class OpenModel:
    """A model's file; what follows from it is made when somebody first asks, and kept.

    Args:
        source: Any model that an importer reads.
        importing: The options that say what the source does not.
        images: The images to calibrate and to compare on.
        progress: Told how far the calibration is.
    """

    def __init__(
        self,
        source: Path,
        importing: ImportOptions,
        *,
        images: ImagesInUse,
        progress: Progress = silent,
    ) -> None:
        self.source, self.importing, self.images = source, importing, images
        self._progress = progress
        self._prepared: dict[tuple[Network, Rewriting], Prepared] = {}
        self._merged: dict[tuple[Network, TokenOptions, tuple[str, ...]], Merged] = {}
        self._narrowed: dict[float, Narrowed] = {}
        self._outputs: dict[Network, Array] = {}

    @property
    def imported(self) -> Imported:
        """The model, compared with its source wherever that can be run.

        Raises:
            NotAViTError: The model is not a vision transformer; ``generic`` may read it.
            ModelError: The source cannot be read.
            ParityError: The source computes something else.
        """
        read = self._read
        if isinstance(read, str):
            raise NotAViTError(read)
        return read

    @cached_property
    def _read(self) -> Imported | str:
        """The model, or why it is not a ViT."""
        try:
            return read_compared(self.source, self.importing.compared_on(self.images.calibration))
        except NotAViTError as error:
            return str(error)

    @cached_property
    def generic(self) -> GenericModel:
        """The model in its own engine.

        Raises:
            ModelError: The model cannot be opened this way.
        """
        return open_generic(self.source, self.importing)

    @cached_property
    def sha256(self) -> str:
        """Digest of the source's bytes, in hex."""
        return sha256_of(self.source)

    def prepared(self, network: Network, rewriting: Rewriting) -> Prepared:
        """A network rewritten, with all its quantizations, which share one calibration.

        Args:
            network: The imported one, or one that follows from it.
            rewriting: The rewrites to apply.
        """

        def make() -> Prepared:
            start = with_features(network) if rewriting.features else network
            start = with_outputs(start, rewriting.also)
            made, names = apply_rewrites(start, rewriting.without, extra=rewriting.extra)
            preprocessing, without = network.preprocessing, rewriting.without
            quantizations = Quantizations(
                made, preprocessing, self.images.calibration, self._progress, without
            )
            return Prepared(made, names, quantizations)

        return _kept(self._prepared, (network, rewriting), make)

    def narrowed(self, share: float) -> Narrowed:
        """The imported network with as many heads and hidden channels as leave a share of work."""

        def make() -> Narrowed:
            return narrowed_as(self.imported.network, share, self.images, self._progress)

        return _kept(self._narrowed, share, make)

    def merged(self, network: Network, options: TokenOptions, also: tuple[str, ...] = ()) -> Merged:
        """A network with tokens merged.

        Args:
            network: The imported one, or one that is narrower.
            options: The number of tokens to merge, and how.
            also: Names of values that become further outputs; they have all tokens.
        """

        def make() -> Merged:
            start = with_outputs(network, also)
            return merged_as(start, options, self.images.calibration)

        return _kept(self._merged, (network, options, also), make)

    def with_images(self, images: ImagesInUse) -> OpenModel:
        """The model with other images; it is not read again, and nothing is made of it yet."""
        made = OpenModel(self.source, self.importing, images=images)
        vars(made).update({"_read": self._read, "sha256": self.sha256})
        return made

    def outputs(self, network: Network, pixels: npt.NDArray[np.uint8]) -> Array:
        """The network's outputs for the images that artefacts are compared on."""
        return _kept(self._outputs, network, lambda: forward_each(network, pixels))

    def reference(self) -> ModelReference:
        """The model as the bench compares artefacts with it."""
        try:
            network = self.imported.network
        except NotAViTError:
            return generic_reference(self.generic, self.source, self.importing)
        return reference_from_network(network, self.source.name)


def _kept(known: dict[K, V], key: K, make: Callable[[], V]) -> V:
    if key not in known:
        known[key] = make()
    return known[key]
