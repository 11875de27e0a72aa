"""The steps of a runtime's own operators for a network: one for each of its operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from vitedge.network.network import Value
from vitedge.network.operators import (
    Activate,
    Convolution,
    Linear,
    Match,
    Norm,
    Pool,
    Product,
    Resize,
    Standardize,
    Take,
)
from vitedge.network.patch_grid import PatchGrid

Tensor = TypeVar("Tensor")
"""What stands for a tensor of the graph: a number, a name, a node, an array."""


class Steps(ABC, Generic[Tensor]):
    """The steps that ``Lowering`` makes; a subclass provides them.

    Each gets the value that it makes, for its name and shape, and the tensors that it reads: whole,
    ``(batch, *shape)``, or, where it says so, in either form.
    """

    @abstractmethod
    def standardize(self, value: Value, operator: Standardize, image: Tensor) -> Tensor:
        """``(image / 255 - mean) / std``, one of each for a channel."""

    def patches(self, grid: PatchGrid, image: Tensor) -> Tensor:
        """The first layer, ``(batch, patches, outputs)``, where ``convolves_patches``."""
        raise NotImplementedError

    def layer_on_constant(self, name: str, layer: Linear) -> Linear:
        """The numbers of a linear layer on a constant; it becomes no step."""
        return layer

    def are_alike(self, layer: Value, other: Value) -> bool:
        """Whether two linear layers on the same value may be one product."""
        return True

    @abstractmethod
    def linears(self, layers: dict[str, Linear], x: Tensor) -> Tensor:
        """Linear layers on the same input as one product, their outputs side by side."""

    @abstractmethod
    def split_columns(self, joined: Tensor, values: Sequence[Value]) -> list[Tensor]:
        """The outputs of several linear layers out of one product, in the product's form."""

    def split_heads(
        self, joined: Tensor, values: Sequence[Value], heads: int, width: int
    ) -> list[Tensor]:
        """Splits ``joined`` into ``(batch, heads, tokens, width)`` each, if ``splits_heads``."""
        raise NotImplementedError

    @abstractmethod
    def convolution(self, value: Value, layer: Convolution, x: Tensor) -> Tensor:
        """A convolution of ``(batch, H, W, C)``."""

    @abstractmethod
    def pool(self, value: Value, pool: Pool, x: Tensor) -> Tensor:
        """A pool of ``(batch, H, W, C)``."""

    @abstractmethod
    def resize(self, value: Value, resize: Resize, x: Tensor) -> Tensor:
        """``(batch, H, W, C)`` in another height and width."""

    @abstractmethod
    def norm(self, value: Value, norm: Norm, x: Tensor) -> Tensor:
        """A norm over the last axis; gamma of ones and beta of zeros cost nothing."""

    @abstractmethod
    def activate(self, value: Value, activation: Activate, x: Tensor) -> Tensor:
        """A non-linearity, element by element."""

    @abstractmethod
    def add(self, value: Value, a: Tensor, b: Tensor) -> Tensor:
        """A sum, with broadcasting."""

    @abstractmethod
    def multiply(self, value: Value, a: Tensor, b: Tensor) -> Tensor:
        """A product of elements, with broadcasting."""

    @abstractmethod
    def scale(self, value: Value, x: Tensor, factor: float) -> Tensor:
        """All elements times one number."""

    @abstractmethod
    def product(self, value: Value, product: Product, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product over the last two axes."""

    @abstractmethod
    def softmax(self, value: Value, x: Tensor) -> Tensor:
        """Softmax over the last axis."""

    @abstractmethod
    def counted_softmax(self, value: Value, x: Tensor, counts: Tensor) -> Tensor:
        """A softmax where each place counts as often as ``counts`` says, ``(batch, places, 1)``."""

    @abstractmethod
    def match(self, value: Value, match: Match, x: Tensor) -> None:
        """Finds which tokens become one, from unit vectors ``(batch, tokens, width)``."""

    @abstractmethod
    def match_matrix(self, value: Value) -> Tensor:
        """The match as a matrix of ones and zeros, ``(batch, new, old)``."""

    @abstractmethod
    def merge(self, value: Value, x: Tensor, counts: Tensor | None) -> Tensor:
        """Means of what is merged; without counts each token is one."""

    @abstractmethod
    def count(self, value: Value, counts: Tensor | None) -> Tensor:
        """The number of tokens in each token afterwards, ``(batch, new, 1)``."""

    @abstractmethod
    def take(self, value: Value, take: Take, x: Tensor) -> Tensor:
        """Some places along an axis of ``(batch, ...)``; ``take.axis`` does not count the batch."""

    @abstractmethod
    def concatenate(self, value: Value, parts: list[Tensor], axis: int) -> Tensor:
        """Along an axis of ``(batch, ...)``."""

    @abstractmethod
    def mean(self, value: Value, x: Tensor, axis: int) -> Tensor:
        """Over an axis of ``(batch, ...)``, which is gone behind it."""

    @abstractmethod
    def reshape(self, x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """Another shape of the same elements."""

    @abstractmethod
    def transpose(self, x: Tensor, order: tuple[int, ...], name: str) -> Tensor:
        """Axes in another order."""

    @abstractmethod
    def constant(self, name: str, values: npt.NDArray[Any]) -> Tensor:
        """A constant of the array's dtype."""
