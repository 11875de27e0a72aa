"""Streams: classes of values whose channels are in one basis, because they are added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.network.channels import Uses, passes_vectors, vectors_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import Add, Concatenate, Multiply, Norm, Reshape


@dataclass(frozen=True, eq=False)
class Stream:
    """Values that share a basis: whoever changes that of one must change that of all.

    Attributes:
        width: Channels of the basis. A value may hold several vectors of it one behind the other.
        values: All of them, in the order of computation.
        writers: The values that come from elsewhere: neither sums nor moves of other values.
        readers: The readers of these values that are not their own sums or moves; each once.
    """

    width: int
    values: tuple[Value, ...]
    writers: tuple[Value, ...]
    readers: tuple[Value, ...]


def streams(network: Network, *, through_norms: bool) -> tuple[Stream, ...]:
    """All classes in which two live values are added and which no output shows, in order.

    Args:
        network: The model.
        through_norms: Whether a norm without gamma and beta leaves the basis as it is, so that what
            it makes belongs to the stream as well.
    """
    uses = Uses.of(network)
    classes = _Classes()
    joints = set()
    for value in network.values:
        sharing = _sharing(value, through_norms)
        if sharing:
            joints.add(value)
            for each in sharing:
                classes.join(value, each)
    groups: dict[Value, list[Value]] = {}
    for value in network.values:
        groups.setdefault(classes.root(value), []).append(value)
    return tuple(
        _stream(group, joints, uses) for group in groups.values() if _is_stream(group, joints, uses)
    )


class _Classes:
    """Union-find."""

    def __init__(self) -> None:
        self._parents: dict[Value, Value] = {}

    def root(self, value: Value) -> Value:
        while (parent := self._parents.get(value, value)) is not value:
            grandparent = self._parents.get(parent, parent)
            self._parents[value] = grandparent
            value = grandparent
        return value

    def join(self, a: Value, b: Value) -> None:
        a, b = self.root(a), self.root(b)
        if a is not b:
            self._parents[b] = a


def _sharing(value: Value, through_norms: bool) -> tuple[Value, ...]:
    """The inputs whose basis a value has, all of one width or multiples; none: it has its own."""
    match value.operator:
        case Add():
            widths = {each.shape[-1] if each.shape else 0 for each in (value, *value.inputs)}
            return value.inputs if len(widths) == 1 else ()
        case Multiply():
            live = [each for each in value.inputs if not each.is_constant]
            factors = [each for each in value.inputs if each.is_constant]
            is_scaled = len(live) == 1 and factors[0].shape[-1:] in ((), (1,))
            return tuple(live) if is_scaled and live[0].shape == value.shape else ()
        case Norm() as norm:
            return value.inputs if through_norms and norm.is_plain else ()
        case Reshape() | Concatenate():
            widths = {each.shape[-1] if each.shape else 0 for each in (value, *value.inputs)}
            least = min(widths)
            return value.inputs if least and passes_vectors(value, least) else ()
        case _ if value.inputs and value.inputs[0].shape:
            sharing = vectors_of(value)
            return sharing if passes_vectors(value, sharing[0].shape[-1]) else ()
        case _:
            return ()


def _is_stream(group: Sequence[Value], joints: set[Value], uses: Uses) -> bool:
    width = min(each.shape[-1] if each.shape else 0 for each in group)
    return (
        any(
            isinstance(each.operator, Add) and not any(part.is_constant for part in each.inputs)
            for each in group
            if each in joints
        )
        and width > 1
        and all(each.shape[-1] % width == 0 for each in group)
        and uses.shown.isdisjoint(group)
    )


def _stream(group: Sequence[Value], joints: set[Value], uses: Uses) -> Stream:
    inside = joints.intersection(group)
    readers = (reader for each in group for reader in uses.readers[each])
    return Stream(
        width=min(each.shape[-1] for each in group),
        values=tuple(group),
        writers=tuple(each for each in group if each not in joints),
        readers=tuple(dict.fromkeys(each for each in readers if each not in inside)),
    )
