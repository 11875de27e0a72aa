"""From a network to a runtime's own operators, value by value, by the steps of a subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Mean,
    Multiply,
    Norm,
    Pixels,
    Pool,
    Product,
    Reshape,
    Resize,
    Shape,
    Softmax,
    Standardize,
    Take,
    Transpose,
)
from vitedge.network.structure import layers_on, readers

Tensor = TypeVar("Tensor")
"""What stands for a tensor of the graph: a number, a name, a node, an array."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """A linear layer on patches that do not overlap: a convolution whose stride is its kernel.

    Attributes:
        image: What is cut, ``(height, width, channels)``.
        layer: The linear layer.
        patch_size: Height and width of a patch.
        grid: Rows and columns of patches.
        moves: The values between image and layer.
    """

    image: Value
    layer: Value
    patch_size: tuple[int, int]
    grid: tuple[int, int]
    moves: tuple[Value, ...]


class Lowering(ABC, Generic[Tensor]):
    """Goes through a network in the order of computation and makes a step of each value.

    Linear layers that read the same value become one product. A tensor is *whole*,
    ``(batch, *shape)``, or, where ``tokens_are_rows``, a matrix of *rows* ``(batch * tokens,
    channels)``, which is how linear layers are multiplied fastest there; it is changed from one to
    the other where a reader needs it. Steps are named like the values, so that a profile or an
    error message reads in the model's own words.

    Args:
        network: The model.
        batch: Static batch size.
    """

    tokens_are_rows: bool
    """Whether what linear layers read and make are matrices of rows."""

    joins_products: bool = True
    """Whether linear layers on the same value are one product; an integer tensor has one range, and
    those of queries, keys and values differ."""

    splits_heads: bool = False
    """Whether queries, keys and values that are one product are cut into heads together."""

    convolves_patches: bool = False
    """Whether the first layer is a step of its own, ``patches``."""

    def __init__(self, network: Network, batch: int) -> None:
        self.network, self.batch = network, batch
        self.readers = readers(network)
        self._whole: dict[Value, Tensor] = {}
        self._rows: dict[Value, Tensor] = {}
        self._made: set[Value] = set()
        self._grids: dict[Value, PatchGrid] = {}
        if self.convolves_patches:
            for value, _ in network.linears():
                grid = patch_grid(value)
                if grid is not None and all(len(self.readers[each]) == 1 for each in grid.moves):
                    self._grids[value] = grid
                    self._made.update(grid.moves)

    def lower(self, pixels: Tensor) -> dict[str, Tensor]:
        """From pixels ``(batch, H, W, C)`` to each output by name, ``(batch, ...)``."""
        unread = Counter(each for value in self.network.values for each in value.inputs)
        unread.update(self.network.outputs.values())
        self._whole[self.network.pixels] = pixels
        for value in self.network.values:
            if value not in self._made:
                self._made.add(value)
                self._step(value)
            for each in value.inputs:
                unread[each] -= 1
                if not unread[each] and each not in self._image_of_grids():
                    self._whole.pop(each, None)
                    self._rows.pop(each, None)
        return {
            name: self.whole(value, f"{value.name}/tokens")
            for name, value in self.network.outputs.items()
        }

    def _image_of_grids(self) -> set[Value]:
        """What is read later than by those values that stand for its readers."""
        return {grid.image for layer, grid in self._grids.items() if layer not in self._made}

    def _step(self, value: Value) -> None:
        match value.operator:
            case Pixels() | Constant():
                pass  # given; or made where it is read
            case Standardize() as operator:
                image = self._whole[value.inputs[0]]
                self._whole[value] = self.standardize(value, operator, image)
            case Linear():
                self._linear_step(value)
            case Norm() as norm:
                self._same_form(value, lambda x: self.norm(value, norm, x))
            case Activate() as activation:
                self._same_form(value, lambda x: self.activate(value, activation, x))
            case Add() | Multiply():
                self._elementwise_step(value)
            case Product() as product:
                a, b = (self._operand(value, each) for each in value.inputs)
                self._whole[value] = self.product(value, product, a, b)
            case Softmax():
                self._whole[value] = self.softmax(value, self._operand(value, value.inputs[0]))
            case Reshape(to=to):
                self._reshape_step(value, to)
            case _:
                self._whole[value] = self._whole_step(value)

    def _whole_step(self, value: Value) -> Tensor:
        """Of what reads whole tensors and makes one."""
        operands = [self._operand(value, each) for each in value.inputs]
        match value.operator:
            case Transpose(axes=axes):
                order = (0, *(axis + 1 for axis in axes))
                return self.transpose(operands[0], order, value.name)
            case Take() as take:
                return self.take(value, take, operands[0])
            case Concatenate(axis=axis):
                return self.concatenate(value, operands, axis + 1)
            case Mean(axis=axis):
                return self.mean(value, operands[0], axis + 1)
            case Convolution() as layer:
                return self.convolution(value, layer, operands[0])
            case Pool() as pool:
                return self.pool(value, pool, operands[0])
            case Resize() as resize:
                return self.resize(value, resize, operands[0])
            case _:
                raise AssertionError(f"{value} has no step")

    def _linear_step(self, value: Value) -> None:
        if value in self._grids:
            grid = self._grids[value]
            self._whole[value] = self.patches(grid, self._whole[grid.image])
            return
        read = value.inputs[0]
        group = [value]
        if self.joins_products:
            group = [each for each in layers_on(read, self.readers) if each not in self._grids]
        x = self.rows(read) if self.tokens_are_rows else self._operand(value, read)
        product = self.linears({each.name: _linear(each) for each in group}, x)
        self._made.update(group)
        if len(group) == 1:
            self._keep(value, product, rows=self.tokens_are_rows)
        elif self.splits_heads and (heads := self._common_heads(group)):
            parts = self.split_heads(product, group, *heads[0].inputs[0].shape[1:])
            for each, part in zip(heads, parts, strict=True):
                self._whole[each] = part
                self._made.update((each, each.inputs[0]))
        else:
            for each, part in zip(group, self.split_columns(product, group), strict=True):
                self._keep(each, part, rows=self.tokens_are_rows)

    def _common_heads(self, group: Sequence[Value]) -> list[Value]:
        """The layers' outputs by head, where all are cut alike and read in no other way."""
        heads = []
        for value in group:
            chain = [value]
            while len(chain) < 3 and len(self.readers[chain[-1]]) == 1:
                chain += self.readers[chain[-1]]
            match [each.operator for each in chain[1:]]:
                case [Reshape(to=(_, _, _)), Transpose(axes=(1, 0, 2))]:
                    heads.append(chain[-1])
                case _:
                    return []
        return heads if len({each.shape for each in heads}) == 1 else []

    def _elementwise_step(self, value: Value) -> None:
        live = [each for each in value.inputs if not each.is_constant]
        scalar = next((each for each in value.inputs if each.is_constant and not each.shape), None)
        if isinstance(value.operator, Multiply) and scalar is not None and len(live) == 1:
            factor = float(_constant(scalar).reshape(()))
            self._same_form(value, lambda x: self.scale(value, x, factor))
            return
        by_channel = all(
            len(each.shape) == 0 or each.shape[:-1] == (1,) * (len(each.shape) - 1)
            for each in value.inputs
            if each.is_constant
        )
        alike = len({each.shape for each in live}) == 1
        rows = by_channel and alike and any(map(self._is_in_rows, live))
        operands = []
        for each in value.inputs:
            if each.is_constant:
                operands.append(self.constant(each.name, _constant(each).astype(np.float32)))
            else:
                label = f"{each.name}/tokens"
                operands.append(self.rows(each) if rows else self.whole(each, label))
        step = self.add if isinstance(value.operator, Add) else self.multiply
        self._keep(value, step(value, *operands), rows=rows)

    def _reshape_step(self, value: Value, to: Shape) -> None:
        read = value.inputs[0]
        x = self._rows[read] if read in self._rows else self._operand(value, read)
        rows = self.tokens_are_rows and len(to) == 2
        shape = (self.batch * to[0], to[1]) if rows else (self.batch, *to)
        self._keep(value, self.reshape(x, shape, value.name), rows=rows)

    def _same_form(self, value: Value, step: Any) -> None:
        """A step that makes rows of rows, and a whole tensor of a whole one."""
        read = value.inputs[0]
        rows = self._is_in_rows(read)
        x = self.rows(read) if rows else self._operand(value, read)
        self._keep(value, step(x), rows=rows)

    def _is_in_rows(self, value: Value) -> bool:
        """Whether a step that takes either should read it as rows."""
        is_matrix = len(value.shape) == 2 and not value.is_constant
        return self.tokens_are_rows and (value in self._rows or is_matrix)

    def _keep(self, value: Value, tensor: Tensor, *, rows: bool) -> None:
        # A batch of vectors is the same either way.
        if rows or len(value.shape) == 1:
            self._rows[value] = tensor
        if not rows or len(value.shape) == 1:
            self._whole[value] = tensor

    # --- the two forms of a tensor

    def rows(self, value: Value) -> Tensor:
        """The value as ``(batch * tokens, channels)``."""
        if value not in self._rows:
            whole = self._operand(value, value)
            shape = (self.batch * int(np.prod(value.shape[:-1])), value.shape[-1])
            is_stream = value.name in _FIRST_OF_STREAM
            name = "stream" if is_stream else f"{value.name}/rows"
            self._rows[value] = whole if len(value.shape) == 1 else self.reshape(whole, shape, name)
        return self._rows[value]

    def whole(self, value: Value, name: str) -> Tensor:
        """The value as ``(batch, *shape)``; the name is for the step that this may take."""
        if value.is_constant:
            values = _constant(value).astype(np.float32)
            return self.constant(value.name, np.broadcast_to(values, (self.batch, *value.shape)))
        if value not in self._whole:
            self._whole[value] = self.reshape(self._rows[value], (self.batch, *value.shape), name)
        return self._whole[value]

    def _operand(self, reader: Value, value: Value) -> Tensor:
        """What a step reads that takes whole tensors."""
        of_pool = reader.name.startswith("pooled/")
        return self.whole(value, "pooled/tokens" if of_pool else f"{reader.name}/tokens")

    # --- the steps

    @abstractmethod
    def standardize(self, value: Value, operator: Standardize, image: Tensor) -> Tensor:
        """``(image / 255 - mean) / std``, one of each for a channel."""

    def patches(self, grid: PatchGrid, image: Tensor) -> Tensor:
        """The first layer, ``(batch, patches, outputs)``, where ``convolves_patches``."""
        raise NotImplementedError

    @abstractmethod
    def linears(self, layers: dict[str, Linear], x: Tensor) -> Tensor:
        """Linear layers on the same input as one product, their outputs side by side."""

    @abstractmethod
    def split_columns(self, joined: Tensor, values: Sequence[Value]) -> list[Tensor]:
        """The outputs of several linear layers out of one product, in the product's form."""

    def split_heads(
        self, joined: Tensor, values: Sequence[Value], heads: int, width: int
    ) -> list[Tensor]:
        """The same as ``(batch, heads, tokens, width)`` each, where ``splits_heads``."""
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


# What the residual stream begins with; as rows it has the name that it has had since 0.1.
_FIRST_OF_STREAM = ("tokens", "embedded")


def patch_grid(layer: Value) -> PatchGrid | None:
    """The patches that a linear layer reads, where it reads an image cut into such."""
    chain: list[Value] = []
    value = layer
    while len(chain) < 3 and len(value.inputs) == 1:
        value = value.inputs[0]
        chain.append(value)
    match [each.operator for each in chain]:
        case [
            Reshape(to=(_, _)),
            Transpose(axes=(0, 2, 1, 3)),
            Reshape(to=(rows, height, columns, _)),
        ]:
            image = chain[-1].inputs[0]
        case _:
            return None
    if not isinstance(image.operator, Pixels | Standardize):
        return None
    wide, channels = image.shape[1], image.shape[2]
    size, grid = (height, wide // columns), (rows, columns)
    is_grid = (
        image.shape == (rows * height, columns * size[1], channels)
        and chain[0].shape == (rows * columns, height * size[1] * channels)
        and chain[2].shape[3] == size[1] * channels
    )
    return PatchGrid(image, layer, size, grid, tuple(reversed(chain))) if is_grid else None


def group_of(name: str) -> tuple[str, str]:
    """A value's name cut before its last part: ``blocks.3.q`` is ``blocks.3`` and ``q``."""
    place = max(name.rfind("."), name.rfind("/"))
    return (name[:place], name[place + 1 :]) if place >= 0 else ("", name)


def _linear(value: Value) -> Linear:
    assert isinstance(value.operator, Linear)
    return value.operator


def _constant(value: Value) -> Array:
    assert isinstance(value.operator, Constant)
    values: Array = value.operator.values
    return values
