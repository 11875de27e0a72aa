"""The two forms of a tensor while a network is lowered, and how one becomes the other."""

from __future__ import annotations

import math

import numpy as np

from vitedge.network.network import Value
from vitedge.network.operators import Array, Constant, Shape
from vitedge.network.steps import Steps, Tensor


class Forms(Steps[Tensor]):
    """Keeps tensors whole, ``(batch, *shape)``, or as rows: one token behind the other.

    Args:
        batch: Static batch size.
    """

    tokens_are_rows: bool
    """Whether what linear layers read and make are rows."""

    rows_keep_batch: bool = False
    """Whether rows are ``(batch, tokens, channels)``, and not ``(batch * tokens, channels)``."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._whole: dict[Value, Tensor] = {}
        self._rows: dict[Value, Tensor] = {}
        self._rows_made_whole: dict[Value, dict[str, Tensor]] = {}
        self._constants: dict[tuple[Value, Shape], Tensor] = {}
        self._has_stream = False

    def forget(self, value: Value) -> None:
        """Lets go of a tensor that nobody reads any more."""
        for held in (self._whole, self._rows, self._rows_made_whole):
            held.pop(value, None)

    def is_in_rows(self, value: Value) -> bool:
        """Whether a step that takes either should read it as rows."""
        return self.tokens_are_rows and (value in self._rows or len(value.shape) == 2)

    def is_same_in_rows(self, value: Value) -> bool:
        """Whether both forms are the same: a batch of vectors, or of tokens if rows keep it."""
        return len(value.shape) == 1 or (self.rows_keep_batch and len(value.shape) == 2)

    def shape_in_rows(self, value: Value) -> Shape:
        """The shape of the value's rows."""
        if self.is_same_in_rows(value):
            return (self.batch, *value.shape)
        tokens, channels = math.prod(value.shape[:-1]), value.shape[-1]
        if self.rows_keep_batch:
            return (self.batch, tokens, channels)
        return (self.batch * tokens, channels)

    def keep(self, value: Value, tensor: Tensor, *, rows: bool) -> None:
        """A tensor in the form that it was made in."""
        if rows or self.is_same_in_rows(value):
            self._rows[value] = tensor
        if not rows or self.is_same_in_rows(value):
            self._whole[value] = tensor

    def rows(self, value: Value) -> Tensor:
        """The value as rows."""
        if value not in self._rows:
            whole = self.whole(value, f"{value.name}/whole")
            shape = self.shape_in_rows(value)
            if self.is_same_in_rows(value):
                self._rows[value] = whole
            elif self._has_stream:
                self._rows[value] = self.reshape(whole, shape, f"{value.name}/rows")
            else:
                # The first is the stream that most models' blocks add to: rows from here on.
                self._has_stream = True
                self._rows[value] = self.reshape(whole, shape, "stream")
                self._whole.pop(value, None)
        return self._rows[value]

    def whole(self, value: Value, name: str) -> Tensor:
        """The value as ``(batch, *shape)``; the name is for the step that this may take."""
        if value.is_constant:
            return self.fixed(value, (self.batch, *value.shape))
        if value in self._whole:
            return self._whole[value]
        known = self._rows_made_whole.setdefault(value, {})
        if name not in known:
            known[name] = self.reshape(self._rows[value], (self.batch, *value.shape), name)
        return known[name]

    def operand(self, reader: Value, value: Value) -> Tensor:
        """The input of a step that takes whole tensors."""
        of_pool = reader.name.startswith("pooled/")  # one name for all that a pooling reads
        return self.whole(value, "pooled/tokens" if of_pool else f"{reader.name}/tokens")

    def fixed(self, value: Value, shape: Shape) -> Tensor:
        """A constant in some shape, once for all that read it so."""
        if (value, shape) not in self._constants:
            values = constant_of(value).astype(np.float32)
            if values.size == np.prod(shape):
                values = values.reshape(shape)
            fixed = self.constant(value.name, np.broadcast_to(values, shape))
            self._constants[value, shape] = fixed
        return self._constants[value, shape]


def constant_of(value: Value) -> Array:
    """The numbers of a constant."""
    assert isinstance(value.operator, Constant)
    values: Array = value.operator.values
    return values
