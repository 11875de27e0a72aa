"""A network in the making: values, and the moves by which they come to lie as operators want."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.importers.lift.views import Axis, View, runs_of
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array, Constant, Operator, Reshape, Shape, Transpose

Fixed: TypeAlias = npt.NDArray[Any]
"""A tensor that is the same for every image, as the source has it."""

Tensor: TypeAlias = View | Fixed
"""Any tensor of the source."""


class Draft:
    """Makes values, each move and each constant once.

    Attributes:
        net: The builder that makes the values, with numbers for names.
    """

    def __init__(self) -> None:
        self.net = Builder()
        self._count = 0
        self._moved: dict[tuple[Value, object], Value] = {}
        self._constants: dict[tuple[Shape, str, bytes], Value] = {}
        self._age: dict[Value, int] = {}

    def __call__(self, operator: Operator, *inputs: Value) -> Value:
        """Makes a value.

        Raises:
            ValueError: The operator cannot read these inputs.
        """
        value = self.net(str(self._count), operator, *inputs)
        self._age[value] = self._count
        self._count += 1
        return value

    def age(self, value: Value) -> int:
        """Its place in the order of making: the first one has 0."""
        return self._age[value]

    def constant(self, values: Fixed) -> Value:
        """A constant; float64 where it has no axis, as factors of the form are."""
        array: npt.NDArray[np.floating[Any]]
        array = np.array(values, np.float32 if values.shape else np.float64, order="C")
        key = array.shape, str(array.dtype), array.tobytes()
        if key not in self._constants:
            self._constants[key] = self(Constant(array))
        return self._constants[key]

    def lying(self, view: View, axes: Sequence[Axis]) -> Value:
        """A value whose axes have the given factors of a view; () is an axis of size 1."""
        sizes, value = view.sizes, view.value
        order = [factor for axis in axes for factor in axis]
        runs = runs_of(order)
        shape = tuple(math.prod(sizes[each] for each in axis) for axis in axes)
        if len(runs) > 1:
            places = sorted(runs)
            value = self.reshape(value, tuple(math.prod(sizes[f] for f in run) for run in places))
            value = self._transpose(value, tuple(places.index(run) for run in runs))
        return self.reshape(value, shape)

    def in_order(self, view: View) -> View:
        """The tensor as a value whose axes are those of the source, without size 1."""
        axes = [axis for axis in view.axes if axis]
        return View.whole(self.lying(view, axes), view.shape)

    def without_ones(self, view: View) -> View:
        """The tensor as a value without axes of size 1."""
        factors = tuple(each for each in view.factors if each)
        if len(factors) == len(view.factors) or not factors:
            return view
        shape = tuple(math.prod(each) for each in factors)
        return View(self.reshape(view.value, shape), factors, view.axes)

    def flat(self, view: View) -> Value:
        """A value of one axis."""
        return self.lying(view, [view.order])

    def reshaped(self, tensor: Tensor, shape: Shape) -> Tensor:
        """Any tensor in another shape."""
        if not isinstance(tensor, View):
            return tensor.reshape(shape)
        try:
            return tensor.reshaped(shape)
        except ValueError:
            sizes = tuple(size for size in shape if size > 1)
            return View.whole(self.reshape(self.flat(tensor), sizes), shape)

    def reshape(self, value: Value, shape: Shape) -> Value:
        """The value in another shape, past reshapes that it comes from."""
        while isinstance(value.operator, Reshape) and value.shape != shape:
            value = value.inputs[0]
        if value.shape == shape:
            return value
        return self._once(value, Reshape(shape))

    def _transpose(self, value: Value, axes: Axis) -> Value:
        return self._once(value, Transpose(axes))

    def _once(self, value: Value, operator: Reshape | Transpose) -> Value:
        if (value, operator) not in self._moved:
            self._moved[value, operator] = self(operator, value)
        return self._moved[value, operator]


def float_array(tensor: Fixed) -> Array:
    """Float32 numbers of a constant, in order."""
    return np.ascontiguousarray(tensor, np.float32)
