"""Code that the emitters of all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from vitedge.network.evaluate import resize_matrix
from vitedge.network.lowering import Lowering, group_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import Linear, Resize, ResizeKind, Take
from vitedge.network.steps import Tensor
from vitedge.quantize import Recipe

# More pieces are gathered place by place.
_MOST_PIECES = 4


class Emitter(Lowering[Tensor]):
    """Writes the graph of a network with the numbers of a recipe."""

    cuts_channels_at_once = False
    """Whether one operator cuts channels into all their parts."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        self.recipe = recipe
        super().__init__(network, batch)
        self._cut: dict[tuple[Value, int], Tensor] = {}

    def layer_on_constant(self, name: str, layer: Linear) -> Linear:
        """See ``Steps``: a bias makes up for the rounding of the weight it is found with."""
        weight = self.recipe.weights.get(name)
        return layer if weight is None else replace(layer, weight=weight.dequantized())

    def are_alike(self, layer: Value, other: Value) -> bool:
        """See ``Steps``: both are float, or integer with the same input."""
        recipe = self.recipe

        def kind(name: str) -> object:
            weight = recipe.weights.get(name)
            if weight is None:
                return None
            grid = weight.bits, weight.scale.ndim, weight.group, weight.zero is None
            return grid, recipe.inputs.get(name), recipe.token_scaled.get(name)

        return kind(layer.name) == kind(other.name)

    def take(self, value: Value, take: Take, x: Tensor) -> Tensor:
        """See ``Steps``: a few runs of neighbours are sliced, anything else is gathered."""
        key = value, take.axis
        if self.cuts_channels_at_once and key not in self._cut:
            parts = self._parts_beside(value)
            cut = self.cut(parts, x, take.axis + 1) if parts else []
            self._cut |= {(part, take.axis): made for part, made in zip(parts, cut, strict=True)}
        if key in self._cut:
            return self._cut[key]
        runs, axis = neighbours(take.places), take.axis + 1
        if len(runs) == 1:
            return self.neighbours_along(x, axis, *runs[0], value.name)
        if len(runs) > _MOST_PIECES:
            return self.places_along(x, axis, take.places, value.name)
        pieces = [
            self.neighbours_along(x, axis, first, count, f"{value.name}/{number}")
            for number, (first, count) in enumerate(runs)
        ]
        return self.concatenate(value, pieces, axis)

    def _parts_beside(self, value: Value) -> list[Value]:
        """All parts that channels are cut into, in order, where this is one of several."""
        read = value.inputs[0]
        last = len(read.shape) - 1
        parts = {
            each: each.operator.places
            for each in self.readers[read]
            if isinstance(each.operator, Take) and each.operator.axis == last
        }
        ordered = sorted(parts, key=parts.__getitem__)
        places = [place for part in ordered for place in parts[part]]
        is_whole = len(parts) > 1 and places == list(range(read.shape[last]))
        return ordered if value in parts and is_whole else []

    def cut(self, parts: Sequence[Value], x: Tensor, axis: int) -> list[Tensor]:
        """All parts of an axis, where ``cuts_channels_at_once``."""
        raise NotImplementedError

    def resize(self, value: Value, resize: Resize, x: Tensor) -> Tensor:
        """See ``Steps``: runtimes round places otherwise than we, so those between are gathered."""
        old, new = value.inputs[0].shape[:2], value.shape[:2]
        is_whole = all(a % b == 0 or b % a == 0 for a, b in zip(old, new, strict=True))
        if resize.kind is not ResizeKind.NEAREST or is_whole:
            return self.interpolated(value, resize, x)
        rows, columns = (
            tuple(int(place) for place in resize_matrix(a, b, resize.kind).argmax(axis=0))
            for a, b in zip(old, new, strict=True)
        )
        x = self.places_along(x, 1, rows, f"{value.name}/rows")
        return self.places_along(x, 2, columns, value.name)

    def interpolated(self, value: Value, resize: Resize, x: Tensor) -> Tensor:
        """A resize by the runtime's own operator."""
        raise NotImplementedError

    def neighbours_along(self, x: Tensor, axis: int, first: int, count: int, name: str) -> Tensor:
        """Neighbouring places along an axis."""
        raise NotImplementedError

    def places_along(self, x: Tensor, axis: int, places: tuple[int, ...], name: str) -> Tensor:
        """Any places along an axis."""
        raise NotImplementedError


def neighbours(places: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbours in ascending order: the first of each, and how many they are."""
    ends = [0, *(at for at, (a, b) in enumerate(pairwise(places), 1) if b != a + 1), len(places)]
    return [(places[first], last - first) for first, last in pairwise(ends)]


def part_name(name: str) -> str:
    """The name of a part of a joined product: ``blocks.3/q`` for ``blocks.3.q``."""
    group, part = group_of(name)
    return f"{group}/{part}" if group else f"{part}/part"


def beside(name: str, part: str) -> str:
    """The name of another tensor of a value's group: ``blocks.3/keys`` for ``blocks.3/scores``."""
    group, last = group_of(name)
    return f"{group or last}/{part}"
