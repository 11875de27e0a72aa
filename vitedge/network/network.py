"""``Value`` and ``Network``, and how a network is built and rebuilt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

import numpy as np

from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.network.operators import (
    Add,
    Array,
    Constant,
    Convolution,
    Linear,
    Match,
    Merge,
    Multiply,
    Operator,
    Pixels,
    Product,
    Shape,
)
from vitedge.network.tasks import Task


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor of one image.

    Attributes:
        name: The name in reports and recipes, such as ``blocks.3.fc1``; no two of a network are
            alike.
        operator: The operator that makes it.
        inputs: The values that the operator reads.
        shape: The shape without the batch axis; found from the operator and the inputs.

    Raises:
        ValueError: The operator cannot read these inputs.
    """

    name: str
    operator: Operator
    inputs: tuple[Value, ...] = ()
    shape: Shape = field(init=False)

    def __post_init__(self) -> None:
        shapes = [each.shape for each in self.inputs]
        try:
            shape = self.operator.shape_of(*shapes)
            ranks = {len(each.shape) for each in self.inputs if not each.is_constant}
            # The batch axis stands before all others, so axes may be missing in constants alone.
            if isinstance(self.operator, Add | Multiply) and ranks - {len(shape)}:
                raise ValueError(f"{shapes} have not the same number of axes")
        except (ValueError, TypeError) as error:
            kind = type(self.operator).__name__
            raise ValueError(f"'{self.name}' ({kind}) does not fit: {error}") from error
        object.__setattr__(self, "shape", shape)

    @property
    def is_constant(self) -> bool:
        """Whether it is a constant itself."""
        return isinstance(self.operator, Constant)

    def __repr__(self) -> str:
        return f"<{self.name}: {type(self.operator).__name__} {self.shape}>"


@dataclass(frozen=True, eq=False)
class Network:
    """Turns the pixels of an image into named outputs.

    Attributes:
        values: All values in the order of computation: each behind its inputs.
        outputs: The outputs of the model, by name: ``logits``, ``features`` ...; the first is the
            main one, whose meaning the task says.
        preprocessing: The steps from images to the pixels that it reads.
        labels: One name for each number of the main output, or empty when nobody gave any.
        task: The meaning of the main output.

    Raises:
        ValueError: Values are not in order, two have one name, an output or the pixels are
            missing, or the main output cannot mean what the task says.
    """

    values: tuple[Value, ...]
    outputs: Mapping[str, Value]
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    task: Task = Task.CLASSES

    def __post_init__(self) -> None:
        known: set[Value] = set()
        names: set[str] = set()
        for value in self.values:
            if value.name in names:
                raise ValueError(f"two values are named '{value.name}'")
            if not known.issuperset(value.inputs):
                raise ValueError(f"'{value.name}' stands before one of its inputs")
            known.add(value)
            names.add(value.name)
        if not self.outputs or not known.issuperset(self.outputs.values()):
            raise ValueError("an output is not a value of the network")
        if sum(isinstance(each.operator, Pixels) for each in self.values) != 1:
            raise ValueError("a network reads the pixels of one image")
        height, width, channels = self.image_shape
        expected = self.preprocessing
        if (height, width) != expected.size or channels != expected.channels:
            raise ValueError(
                f"preprocessing makes {expected.size} pixels of {expected.channels} channels, the "
                f"network takes {(height, width)} of {channels}"
            )
        shape = self.main.shape
        misfit = "" if self.task is Task.CLASSES else self.task.misfit(shape)
        if misfit:
            raise ValueError(f"the main output is {shape}, but {misfit}")
        if self.labels and len(self.labels) not in self.task.label_counts(shape):
            counts = " or ".join(map(str, self.task.label_counts(shape)))
            raise ValueError(f"{len(self.labels)} labels for {counts} {self.task}")

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name} {each.shape}" for name, each in self.outputs.items())
        return f"<network: pixels {self.image_shape} to {outputs}, {self.parameters:,} parameters>"

    @property
    def pixels(self) -> Value:
        """The input."""
        return next(each for each in self.values if isinstance(each.operator, Pixels))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.pixels.shape
        return height, width, channels

    @property
    def main_name(self) -> str:
        """The name of the main output."""
        return next(iter(self.outputs))

    @property
    def main(self) -> Value:
        """The main output, which the task is of."""
        return self.outputs[self.main_name]

    @property
    def logits(self) -> Value:
        """The output that probabilities are made of."""
        return self.outputs["logits"]

    @property
    def classes(self) -> int:
        """Number of logits; 0 where there are none."""
        return self.logits.shape[-1] if "logits" in self.outputs else 0

    def linears(self) -> Iterator[tuple[Value, Linear]]:
        """Linear layers in the order of computation."""
        for value in self.values:
            if isinstance(value.operator, Linear):
                yield value, value.operator

    def named_linears(self) -> Iterator[tuple[str, Linear]]:
        """Linear layers by name, in the order of computation."""
        return ((value.name, layer) for value, layer in self.linears())

    def named_arrays(self) -> Iterator[tuple[str, Array]]:
        """Every float32 array with its name: of a constant the value's own, else a part of it."""
        for value in self.values:
            for part in fields(value.operator):
                array = getattr(value.operator, part.name)
                if isinstance(array, np.ndarray) and array.shape:
                    label = value.name if value.is_constant else f"{value.name}.{part.name}"
                    yield label, array

    @property
    def parameters(self) -> int:
        """Number of array elements."""
        return sum(array.size for _, array in self.named_arrays())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image: layers, matrix products, and merging of tokens."""
        return sum(map(macs_of, self.values))


def macs_of(value: Value) -> int:
    """Multiply-accumulates of one value for one image."""
    match value.operator:
        case Linear(weight=weight):
            return math.prod(value.shape[:-1]) * weight.size
        case Convolution(weight=weight):
            return math.prod(value.shape[:-1]) * weight.size
        case Product():
            return math.prod(value.inputs[0].shape) * value.shape[-1]
        case Match() as match:
            tokens, width = value.inputs[0].shape
            return len(match.finders(tokens)) * len(match.found(tokens)) * width
        case Merge():
            new, old = value.inputs[0].shape
            return (old - new) * new * value.shape[-1]
        case _:
            return 0


class Builder:
    """Collects values in the order in which they are made.

    Elements (``vitedge.elements``) are functions that take one::

        net = Builder()
        x = net("pixels", Pixels(224, 224, 3))
        x = net("patch", Linear(weight, bias), patches(net, x, (16, 16)))
    """

    def __init__(self) -> None:
        self._values: list[Value] = []

    def __call__(self, name: str, operator: Operator, *inputs: Value) -> Value:
        """Makes a value.

        Raises:
            ValueError: The operator cannot read these inputs.
        """
        value = Value(name, operator, inputs)
        self._values.append(value)
        return value

    def network(
        self,
        outputs: Mapping[str, Value],
        preprocessing: Preprocessing,
        labels: Iterable[str] = (),
        task: Task = Task.CLASSES,
    ) -> Network:
        """The network of all values that an output needs."""
        values = needed(self._values, outputs.values())
        return Network(values, dict(outputs), preprocessing, tuple(labels), task)


def needed(values: Iterable[Value], outputs: Iterable[Value]) -> tuple[Value, ...]:
    """The pixels and the ``values`` that the outputs are computed from, in their order."""
    wanted = set(outputs)
    kept = []
    for value in reversed(list(values)):
        if value in wanted or isinstance(value.operator, Pixels):
            wanted.update(value.inputs)
            kept.append(value)
    return tuple(reversed(kept))


Change: TypeAlias = Callable[[Value, tuple[Value, ...]], Value | None]
"""Called with a value and its inputs in the new network; gives what stands in its place there, or
None for the same operator on those inputs."""


def rebuilt(network: Network, change: Change) -> Network:
    """The network whose values are each replaced by what ``change`` gives for them.

    A change may make further values on the way: they come to stand just before the one that reads
    them. What no output needs any more is left out. Without any change it is ``network`` itself.
    """
    new: dict[Value, Value] = {}
    order: dict[Value, None] = {}

    def place(value: Value) -> None:
        if value not in order:
            for each in value.inputs:
                place(each)
            order[value] = None

    for value in network.values:
        inputs = tuple(new[each] for each in value.inputs)
        made = change(value, inputs)
        if made is None:
            made = value if inputs == value.inputs else replace(value, inputs=inputs)
        new[value] = made
        place(made)
    if all(made is value for value, made in new.items()):
        return network
    outputs = {name: new[value] for name, value in network.outputs.items()}
    return replace(network, values=needed(order, outputs.values()), outputs=outputs)


def with_task(network: Network, task: Task) -> Network:
    """The network whose main output means something else, and is called accordingly.

    Labels stay where there are as many as such an output may have.

    Raises:
        ModelError: An output of this shape cannot mean that.
    """
    shape = network.main.shape
    misfit = task.misfit(shape)
    if misfit:
        size = " x ".join(map(str, shape))
        raise ModelError(f"the model gives {size} numbers for each image, but {misfit}")
    main, *others = network.outputs.items()
    outputs = {task.output: main[1], **dict(others)}
    labels = network.labels if len(network.labels) in task.label_counts(shape) else ()
    return replace(network, outputs=outputs, task=task, labels=labels)


def with_operators(network: Network, operators: Mapping[Value, Operator]) -> Network:
    """The network in which some values are made by other operators; all else is shared."""

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        operator = operators.get(value, value.operator)
        if operator is value.operator:
            return None
        return Value(value.name, operator, inputs)

    return rebuilt(network, change)


def map_linears(network: Network, change: Callable[[str, Linear], Linear]) -> Network:
    """The network whose linear layers are each replaced by ``change(name, layer)``.

    They are visited in the order of computation.
    """
    return with_operators(
        network, {value: change(value.name, layer) for value, layer in network.linears()}
    )
