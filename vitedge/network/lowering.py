"""Turns a network into a runtime's own operators, value by value, by the steps of a subclass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from vitedge.network.folding import folded, without_undone_moves
from vitedge.network.forms import Forms, constant_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Convolution,
    Count,
    Linear,
    Match,
    Mean,
    Merge,
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
from vitedge.network.patch_grid import PatchGrid, patch_grid
from vitedge.network.steps import Tensor
from vitedge.network.structure import layers_on, readers


class Lowering(Forms[Tensor]):
    """Goes through a network in the order of computation and makes a step of each value.

    Linear layers that read the same value become one product. A tensor is *whole*,
    ``(batch, *shape)``, or, where ``tokens_are_rows``, *rows* in the shape in which linear layers
    are multiplied fastest there; it is changed from one to the other where a reader needs it. Steps
    are named like the values, so that a profile or an error message reads in the model's own words.

    Args:
        network: The model.
        batch: Static batch size.
    """

    joins_products: bool = True
    """Whether linear layers on the same value are one product; an integer tensor has one range, and
    those of queries, keys and values differ."""

    norms_read_rows: bool = False
    """Whether norms are computed of rows, whatever made what they read."""

    splits_heads: bool = False
    """Whether queries, keys and values that are one product are cut into heads together."""

    convolves_patches: bool = False
    """Whether the first layer is a step of its own, ``patches``."""

    def __init__(self, network: Network, batch: int) -> None:
        super().__init__(batch)
        self.network = without_undone_moves(folded(network, self.layer_on_constant))
        self.readers = readers(self.network)
        self._shown = set(self.network.outputs.values())
        self._made: set[Value] = set()
        self._grids: dict[Value, PatchGrid] = {}
        if self.convolves_patches:
            for value, _ in self.network.linears():
                grid = patch_grid(value)
                if grid is not None and all(map(self._is_inside, grid.moves)):
                    self._grids[value] = grid
                    self._made.update(grid.moves)

    def _is_inside(self, value: Value) -> bool:
        """Whether one other value reads it, and nobody else."""
        return len(self.readers[value]) == 1 and value not in self._shown

    def lower(self, pixels: Tensor) -> dict[str, Tensor]:
        """Lowers pixels ``(batch, H, W, C)`` to each output by name, ``(batch, ...)``."""
        unread = Counter(each for value in self.network.values for each in value.inputs)
        unread.update(self.network.outputs.values())
        # A first layer reads its image past the moves between them.
        unread.update(grid.image for grid in self._grids.values())
        self._whole[self.network.pixels] = pixels
        for value in self.network.values:
            if value not in self._made:
                self._made.add(value)
                self.step(value)
            read = [*value.inputs]
            if value in self._grids:
                read.append(self._grids[value].image)
            for each in read:
                unread[each] -= 1
                if not unread[each]:
                    self.forget(each)
        return {
            name: self.whole(value, f"{value.name}/tokens")
            for name, value in self.network.outputs.items()
        }

    def step(self, value: Value) -> None:
        """Makes a value of those before it."""
        match value.operator:
            case Pixels() | Constant():
                pass  # given; or made where it is read
            case Standardize() as operator:
                image = self.operand(value, value.inputs[0])
                self._whole[value] = self.standardize(value, operator, image)
            case Linear():
                self._linear_step(value)
            case Norm() as norm:
                self._same_form(
                    value, lambda x: self.norm(value, norm, x), always_rows=self.norms_read_rows
                )
            case Activate() as activation:
                self._same_form(value, lambda x: self.activate(value, activation, x))
            case Add() | Multiply():
                self._elementwise_step(value)
            case Reshape(to=to):
                self._reshape_step(value, to)
            case Take() as take if self._is_on_channels(value, take.axis):
                along = replace(take, axis=self._channels_axis(value) - 1)
                self._same_form(value, lambda x: self.take(value, along, x))
            case Concatenate(axis=axis) if self._is_on_channels(value, axis):
                parts = [self.rows(each) for each in value.inputs]
                axis = self._channels_axis(value)
                self.keep(value, self.concatenate(value, parts, axis), rows=True)
            case Match() as match:
                self.match(value, match, self.operand(value, value.inputs[0]))
                if any(not _is_told(each, value) for each in self.readers[value]):
                    self._whole[value] = self.match_matrix(value)
            case Merge() | Count():
                self._whole[value] = self._merging_step(value)
            case _:
                self._whole[value] = self._whole_step(value)

    def _merging_step(self, value: Value) -> Tensor:
        counts = self._counts(value)
        if isinstance(value.operator, Count):
            return self.count(value, counts)
        return self.merge(value, self.operand(value, value.inputs[1]), counts)

    def _counts(self, value: Value) -> Tensor | None:
        """The value that counts the tokens in each token; None where each is one."""
        counts = value.inputs[-1]
        if counts.is_constant and bool((constant_of(counts) == 1).all()):
            return None
        return self.operand(value, counts)

    def _is_on_channels(self, value: Value, axis: int) -> bool:
        """Whether something happens along the channels of what are rows all."""
        is_last = axis == len(value.shape) - 1
        return is_last and all(each in self._rows for each in value.inputs)

    def _channels_axis(self, value: Value) -> int:
        """The axis of the channels in rows."""
        return len(self.shape_in_rows(value)) - 1

    def _whole_step(self, value: Value) -> Tensor:
        """Lowers an operator that reads whole tensors and makes one."""
        operands = [self.operand(value, each) for each in value.inputs]
        match value.operator:
            case Product() as product:
                return self.product(value, product, *operands)
            case Softmax():
                x, *counts = operands
                return self.counted_softmax(value, x, *counts) if counts else self.softmax(value, x)
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
            self._whole[value] = self.patches(grid, self.operand(value, grid.image))
            return
        read = value.inputs[0]
        group = [value]
        if self.joins_products:
            group += [each for each in layers_on(read, self.readers) if self._joins(value, each)]
        x = self.rows(read) if self.tokens_are_rows else self.operand(value, read)
        product = self.linears({each.name: _linear(each) for each in group}, x)
        self._made.update(group)
        if len(group) == 1:
            self.keep(value, product, rows=self.tokens_are_rows)
        elif self.splits_heads and (heads := self._common_heads(group)):
            parts = self.split_heads(product, group, *heads[0].inputs[0].shape[1:])
            for each, part in zip(heads, parts, strict=True):
                self._whole[each] = part
                self._made.update((each, each.inputs[0]))
        else:
            for each, part in zip(group, self.split_columns(product, group), strict=True):
                self.keep(each, part, rows=self.tokens_are_rows)

    def _joins(self, layer: Value, other: Value) -> bool:
        free = other not in self._made and other not in self._grids
        return free and self.are_alike(layer, other)

    def _common_heads(self, group: Sequence[Value]) -> list[Value]:
        """The layers' outputs by head, where all are cut alike and read in no other way."""
        heads = []
        for value in group:
            chain = [value]
            while len(chain) < 3 and self._is_inside(chain[-1]):
                chain += self.readers[chain[-1]]
            match [each.operator for each in chain[1:]]:
                case [Reshape(to=(rows, _, _)), Transpose(axes=(1, 0, 2))] if value.shape[:-1] == (
                    rows,
                ):
                    heads.append(chain[-1])
                case _:
                    return []
        return heads if len({each.shape for each in heads}) == 1 else []

    def _elementwise_step(self, value: Value) -> None:
        live = [each for each in value.inputs if not each.is_constant]
        scalar = next((each for each in value.inputs if each.is_constant and not each.shape), None)
        if isinstance(value.operator, Multiply) and scalar is not None and len(live) == 1:
            factor = float(constant_of(scalar).reshape(()))
            self._same_form(value, lambda x: self.scale(value, x, factor), live[0])
            return
        fixed = [each for each in value.inputs if each.is_constant]
        by_channel = all(each.shape[:-1] == (1,) * (len(each.shape) - 1) for each in fixed)
        alike = len({each.shape for each in live}) == 1
        is_row = live[0].shape == value.shape
        rows = by_channel and alike and is_row and any(map(self.is_in_rows, live))
        operands = [self._term(each, rows=rows) for each in value.inputs]
        step = self.add if isinstance(value.operator, Add) else self.multiply
        self.keep(value, step(value, *operands), rows=rows)

    def _term(self, value: Value, *, rows: bool) -> Tensor:
        if not value.is_constant:
            return self.rows(value) if rows else self.whole(value, f"{value.name}/tokens")
        # Axes are aligned at the end, so a constant may lack the first ones.
        return self.fixed(value, value.shape[-1:] or (1,) if rows else value.shape or (1,))

    def _reshape_step(self, value: Value, to: Shape) -> None:
        read = value.inputs[0]
        x = self._rows[read] if read in self._rows else self.operand(value, read)
        rows = self.tokens_are_rows and len(to) == 2
        shape = self.shape_in_rows(value) if rows else (self.batch, *to)
        self.keep(value, self.reshape(x, shape, value.name), rows=rows)

    def _same_form(
        self,
        value: Value,
        step: Callable[[Tensor], Tensor],
        read: Value | None = None,
        *,
        always_rows: bool = False,
    ) -> None:
        """A step that makes rows of rows, and a whole tensor of a whole one."""
        read = read or value.inputs[0]
        rows = always_rows or self.is_in_rows(read)
        x = self.rows(read) if rows else self.operand(value, read)
        self.keep(value, step(x), rows=rows)


def _is_told(value: Value, match: Value) -> bool:
    """Whether it needs not the matrix, but what was found."""
    return isinstance(value.operator, Merge | Count) and match not in value.inputs[1:]


def group_of(name: str) -> tuple[str, str]:
    """A value's name cut before its last part: ``blocks.3.q`` is ``blocks.3`` and ``q``."""
    place = max(name.rfind("."), name.rfind("/"))
    return (name[:place], name[place + 1 :]) if place >= 0 else ("", name)


def _linear(value: Value) -> Linear:
    assert isinstance(value.operator, Linear)
    return value.operator
