"""Names for the values of a network that was read node by node, as in reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from vitedge.network.blocks import Ancestry, blocks
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Norm,
    Pixels,
)
from vitedge.network.structure import Readers, attentions, is_move, readers


def named(network: Network) -> Network:
    """The network whose layers are named like ``blocks.3.fc1`` where that can be told."""
    names = _Names(network).find()
    new: dict[Value, Value] = {}
    for value in network.values:
        inputs = tuple(new[each] for each in value.inputs)
        new[value] = Value(names[value], value.operator, inputs)
    outputs = {name: new[value] for name, value in network.outputs.items()}
    return replace(network, values=tuple(new.values()), outputs=outputs)


class _Names:
    def __init__(self, network: Network) -> None:
        self._network, self._readers = network, readers(network)
        self._names: dict[Value, str] = {}
        self._taken: Counter[str] = Counter()
        self._block: dict[Value, str] = {}
        found = blocks(network)
        if attentions(network):
            for index, block in enumerate(found):
                self._block |= dict.fromkeys(block.values, f"blocks.{index}")

    def find(self) -> dict[Value, str]:
        """A name for each value, no two alike."""
        self._of_attentions()
        self._of_ends()
        for value in self._network.values:
            if value not in self._names:
                self._give(value, self._wanted(value))
        return self._names

    def _give(self, value: Value, wanted: str) -> None:
        if value in self._names:
            return
        self._taken[wanted] += 1
        number = self._taken[wanted]
        mark = "/" if "/" in wanted else "."
        name = wanted if number == 1 else f"{wanted}{mark}{number}"
        while name in self._names.values():
            number += 1
            name = f"{wanted}{mark}{number}"
        self._names[value] = name

    def _of_attentions(self) -> None:
        ancestry = Ancestry(self._network)
        for index, each in enumerate(attentions(self._network)):
            label = self._block.get(each.mixed, f"attention.{index}")
            for part, made in (("q", each.queries), ("k", each.keys), ("v", each.values)):
                layers = _nearest_layers(made)
                for layer in layers:
                    self._give(layer, f"{label}.{part}")
            out = _next_layer(each.mixed, self._readers)
            if out is not None and ancestry.reaches(each.mixed, out):
                self._give(out, f"{label}.out")

    def _of_ends(self) -> None:
        network = self._network
        self._give(network.pixels, "pixels")
        layers = [value for value in network.values if _is_layer(value)]
        if layers and isinstance(layers[0].operator, Linear) and layers[0] not in self._block:
            self._give(layers[0], "patch")
        logits = network.outputs.get("logits")
        if logits is not None and isinstance(logits.operator, Linear):
            self._give(logits, "head")

    def _wanted(self, value: Value) -> str:
        block = self._block.get(value)
        match value.operator:
            case Linear():
                part = self._part_of_mlp(value)
            case Norm():
                part = "norm"
            case Convolution():
                part = "conv"
            case Constant():
                part = "constant"
            case operator:
                kind = type(operator).__name__.lower()
                return f"{block}/{kind}" if block else kind
        return f"{block}.{part}" if block else part

    def _part_of_mlp(self, value: Value) -> str:
        read = value.inputs[0]
        before = read.inputs[0] if isinstance(read.operator, Norm) else read
        if isinstance(before.operator, Activate):
            return "fc2"
        following = self._readers[value]
        if any(isinstance(each.operator, Activate) for each in following):
            gates = [
                reader
                for each in following
                if isinstance(each.operator, Activate)
                for reader in self._readers[each]
            ]
            live = (each for each in gates if isinstance(each.operator, Multiply))
            return "gate" if any(live) else "fc1"
        if any(
            isinstance(each.operator, Multiply)
            and not any(other.is_constant for other in each.inputs)
            for each in following
        ):
            return "up"
        return "down" if isinstance(before.operator, Multiply) else "linear"


def _is_layer(value: Value) -> bool:
    return isinstance(value.operator, Linear | Convolution)


def _nearest_layers(value: Value) -> Iterable[Value]:
    """The linear layers that a value is made of with no other layer between."""
    found: dict[Value, None] = {}
    stack, seen = [value], {value}
    while stack:
        each = stack.pop()
        if isinstance(each.operator, Linear):
            found[each] = None
        elif not isinstance(each.operator, Pixels | Convolution):
            stack += [before for before in each.inputs if before not in seen]
            seen.update(each.inputs)
    return found


def _next_layer(value: Value, read: Readers) -> Value | None:
    """The only linear layer that reads a value behind moves."""
    while len(read[value]) == 1:
        (value,) = read[value]
        if isinstance(value.operator, Linear):
            return value
        if not is_move(value):
            return None
    return None
