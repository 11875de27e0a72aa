"""Experiments on a traced model: feed tensors anywhere, read tensors anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from vitedge.errors import ModelError
from vitedge.files.limits import refuse_inflation
from vitedge.importers.lift.graph import Graph
from vitedge.importers.lift.layout import Shape, axis_of_first_image, batch_axes
from vitedge.importers.lift.rules import Rules
from vitedge.network.operators import Array

Function: TypeAlias = Callable[[Sequence[Array]], list[Array]]
"""Takes the arrays of the fed tensors, returns those of the fetched tensors, all float32."""


# Experiments run on up to so many images, in float32.
_IMAGES, _BYTES = 8, 4


def refuse_large_images(what: str, batch: int | None, shape: tuple[int, int, int]) -> None:
    """Refuses a model that claims to take images which would not fit into memory.

    Args:
        what: The model, for the message.
        batch: The only number of images that it takes at once, or None.
        shape: The shape of one image.

    Raises:
        SizeError: The images are too large.
    """
    claimed = max(batch or 0, _IMAGES) * _BYTES * math.prod(shape)
    refuse_inflation(f"images of {' x '.join(map(str, shape))} for {what}", claimed)


class Probe(Protocol):
    """The engine that lifting needs; each engine implements it once.

    The graph and its weights stay inside the engine: nothing is copied out but what is fetched.
    """

    @property
    def graph(self) -> Graph:
        """The traced model."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image as the model takes it, ``(H, W, C)`` or ``(C, H, W)``."""
        ...

    @property
    def takes_integers(self) -> bool:
        """Whether the model's input is of an integer type."""
        ...

    @property
    def batch(self) -> int | None:
        """The only number of images the model takes at once, or None when it takes any."""
        ...

    def rules(self) -> Rules:
        """The computation of each of the engine's operators."""
        ...

    def shapes(self, images: int, tensors: Sequence[str]) -> list[tuple[int, ...]]:
        """The shapes of tensors for so many images; found without keeping the tensors."""
        ...

    def function(self, feeds: Sequence[str], fetches: Sequence[str]) -> Function:
        """Prepares the part of the model between some tensors.

        Args:
            feeds: Tensors whose values will be given; the image is always among them.
            fetches: Tensors to compute.
        """
        ...


class Experiments:
    """Runs experiments, and knows the shapes of the tensors that take part in them.

    Args:
        probe: The engine's part.
        single: Always run one image: a tensor is then that image's, wherever its axis is.

    Attributes:
        graph: The traced model, or its beginning.
    """

    def __init__(self, probe: Probe, *, single: bool = False) -> None:
        self.probe, self.graph = probe, probe.graph
        self._single = single
        self._shapes: dict[str, Shape] = {}

    def end_at(self, output: str) -> None:
        """Forgets what follows a tensor, which becomes the output."""
        self.graph = self.graph.ending_at(output)

    def batch_for(self, wanted: int) -> int:
        """The number of images to run at once, when so many would be best."""
        return 1 if self._single else self.probe.batch or max(1, wanted)

    def measure(self, tensors: Iterable[str]) -> None:
        """Learns the shapes of tensors, all in one run of the model.

        Raises:
            ModelError: A tensor does not hold its images one after the other.
        """
        unknown = [name for name in dict.fromkeys(tensors) if name not in self._shapes]
        if not unknown:
            return
        names = [name for name in unknown if name != self.graph.image]
        name = ""
        try:
            if self._single:
                for name, size in zip(names, self.probe.shapes(1, names), strict=True):
                    self._shapes[name] = Shape(size, 0)
            elif self.probe.batch is None:
                for name, *sizes in zip(
                    names, self.probe.shapes(1, names), self.probe.shapes(2, names), strict=True
                ):
                    self._shapes[name] = Shape.of_two_batches(*sizes)
            else:
                batch = self.probe.batch
                for name, size in zip(names, self.probe.shapes(batch, names), strict=True):
                    axes = batch_axes(size, batch)
                    axis = self._tell(name, batch) if batch > 1 and len(axes) > 1 else axes[0]
                    self._shapes[name] = Shape.of_one_batch(size, batch, axis)
        except ValueError as error:
            node = self.graph.describe(name)
            raise ModelError(f"node {node} mixes the images of a batch: {error}") from error
        self._shapes[self.graph.image] = Shape((1, *self.probe.image_shape), 0)

    def _tell(self, tensor: str, batch: int) -> int:
        """The axis of the images, found by changing the first one."""
        run = self.probe.function([self.graph.image], [tensor])
        images = self.blank(batch)
        (before,) = run([images])
        images[0] = np.random.default_rng(0).standard_normal(self.probe.image_shape) * 99
        (after,) = run([images])
        return axis_of_first_image(before != after, batch)

    def shape(self, tensor: str) -> Shape:
        """The shape of a tensor."""
        if tensor not in self._shapes:
            self.measure([tensor])
        return self._shapes[tensor]

    def between(self, feeds: Sequence[str], fetches: Sequence[str]) -> Experiment:
        """Prepares an experiment that is run several times."""
        image = self.graph.image
        names = feeds if image in feeds else [*feeds, image]
        return Experiment(self, tuple(feeds), self.probe.function(names, fetches))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Runs an experiment once."""
        return self.between(list(feeds), fetches)(*feeds.values())

    def blank(self, n: int) -> Array:
        """So many images of zeros, as the model takes them."""
        return np.zeros((n, *self.probe.image_shape), np.float32)


class Experiment:
    """A prepared part of the model; call it with one array per fed tensor."""

    def __init__(self, experiments: Experiments, feeds: tuple[str, ...], run: Function) -> None:
        self._experiments, self._feeds, self._run = experiments, feeds, run

    def __call__(self, *arrays: Array) -> list[Array]:
        """Runs it; an image that is not fed is black.

        Returns:
            The fetched tensors, float32.
        """
        experiments = self._experiments
        fed = [np.ascontiguousarray(array, np.float32) for array in arrays]
        if experiments.graph.image not in self._feeds:
            n = experiments.shape(self._feeds[0]).split(fed[0]).shape[0]
            fed.append(experiments.blank(n))
        return self._run(fed)
