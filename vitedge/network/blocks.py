"""The residual stream of a network, its blocks, and its head: what training asks a network.

A residual sum adds to the stream what a branch made of it. A block begins with the sum whose branch
holds an attention, and ends before the next such sum.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vitedge.network.channels import takes_means
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Constant,
    Count,
    Linear,
    Merge,
    Multiply,
    Norm,
)
from vitedge.network.structure import Readers, attentions, is_move, readers, source_of


@dataclass(frozen=True)
class ResidualSum:
    """A sum of the stream and what a branch made of it.

    Attributes:
        value: The sum.
        stream: The one that it adds to.
        branch: The one that is added.
    """

    value: Value
    stream: Value
    branch: Value


@dataclass(frozen=True)
class Block:
    """A part of the network.

    Attributes:
        start: The stream before it.
        end: The stream behind it.
        values: The values that are made of ``start`` and constants on the way to ``end``, which is
            the last.
        sums: Its residual sums.
    """

    start: Value
    end: Value
    values: tuple[Value, ...]
    sums: tuple[ResidualSum, ...]


class Ancestry:
    """The values that each value of a network is made of, directly or not."""

    def __init__(self, network: Network) -> None:
        self._place = {value: place for place, value in enumerate(network.values)}
        self._before: dict[Value, int] = {}
        for value, place in self._place.items():
            bits = 1 << place
            for each in value.inputs:
                bits |= self._before[each]
            self._before[value] = bits

    def reaches(self, first: Value, last: Value) -> bool:
        """Whether the last is the first, or made of it."""
        return bool(self._before[last] >> self._place[first] & 1)

    def between(self, start: Value | None, end: Value) -> tuple[Value, ...]:
        """The values that ``end`` is made of and ``start`` is not, in the order of computation."""
        bits = self._before[end] & ~(0 if start is None else self._before[start])
        return tuple(value for value, place in self._place.items() if bits >> place & 1)


def residual_sums(network: Network) -> tuple[ResidualSum, ...]:
    """The sums of the stream, in the order of computation; not those within a branch."""
    ancestry = Ancestry(network)
    found: dict[Value, ResidualSum] = {}
    for value in network.values:
        each = _residual(value, found, ancestry)
        if each is not None:
            found[value] = each

    def is_within(inner: ResidualSum, outer: ResidualSum) -> bool:
        reaches = ancestry.reaches
        return reaches(inner.value, outer.branch) and not reaches(inner.value, outer.stream)

    sums = tuple(found.values())
    return tuple(each for each in sums if not any(is_within(each, other) for other in sums))


def _residual(
    value: Value, earlier: dict[Value, ResidualSum], ancestry: Ancestry
) -> ResidualSum | None:
    """A sum one of whose terms is made of the other, or of what that was added to."""
    if not isinstance(value.operator, Add):
        return None
    for stream, branch in (value.inputs, value.inputs[::-1]):
        if stream.is_constant or branch.is_constant:
            continue
        root = source_of(stream)
        while not ancestry.reaches(root, branch) and root in earlier:
            root = source_of(earlier[root].stream)
        if ancestry.reaches(root, branch):
            return ResidualSum(value, stream, branch)
    return None


def blocks(network: Network) -> tuple[Block, ...]:
    """The blocks in the order of computation; a network without a stream is one block.

    What stands before the first block and behind the last one belongs to none.
    """
    sums, ancestry = residual_sums(network), Ancestry(network)
    if not sums:
        return (_only_block(network, ancestry),)
    firsts = [place for place, each in enumerate(sums) if _attends(network, each, ancestry)]
    firsts = firsts or [0]
    sums = _before_pooling(network, sums, firsts[-1], ancestry)
    starts = [source_of(sums[place].stream) for place in firsts]
    ends = [*starts[1:], _last_end(network, sums)]
    edges = [*firsts[1:], len(sums)]
    return tuple(
        Block(start, end, ancestry.between(start, end), sums[first:edge])
        for start, end, first, edge in zip(starts, ends, firsts, edges, strict=True)
    )


def _before_pooling(
    network: Network, sums: tuple[ResidualSum, ...], last: int, ancestry: Ancestry
) -> tuple[ResidualSum, ...]:
    """The sums without those that add to what an attention pooled.

    Args:
        network: The network.
        sums: Its residual sums.
        last: The place of the last one whose branch holds an attention.
        ancestry: The ancestry of its values.
    """
    mixed = [each.mixed for each in attentions(network)]
    for place in range(last + 1, len(sums)):
        stream, before = sums[place].stream, sums[place - 1].value
        if any(ancestry.reaches(v, stream) and not ancestry.reaches(v, before) for v in mixed):
            return sums[:place]
    return sums


def _attends(network: Network, each: ResidualSum, ancestry: Ancestry) -> bool:
    return any(
        ancestry.reaches(attention.mixed, each.branch)
        and not ancestry.reaches(attention.mixed, each.stream)
        for attention in attentions(network)
    )


def _last_end(network: Network, sums: tuple[ResidualSum, ...]) -> Value:
    """The last sum; the norm behind it, where the stream passes a norm behind each sum."""
    last = sums[-1]
    behind = source_of(last.stream)
    if len(sums) > 1 and isinstance(behind.operator, Norm) and behind.inputs[0] is sums[-2].value:
        norms = [each for each in readers(network)[last.value] if isinstance(each.operator, Norm)]
        return norms[0] if norms else last.value
    return last.value


def _only_block(network: Network, ancestry: Ancestry) -> Block:
    first = next((each for each in head_of(network, ()) if _is_layer(each)), None)
    end = next(iter(network.outputs.values())) if first is None else first.inputs[0]
    return Block(network.pixels, end, ancestry.between(network.pixels, end), ())


def head_of(network: Network, parts: Collection[Block]) -> tuple[Value, ...]:
    """The values that make the logits of one vector: linear layers and non-linearities.

    Args:
        network: The network.
        parts: Its blocks, none of which is part of the head; without any, the head is the last
            layer alone.

    Returns:
        The values in order, the first of which is a layer; empty where logits are made otherwise.
    """
    if "logits" not in network.outputs:
        return ()
    inside = {value for part in parts for value in part.values}
    chain: list[Value] = []
    value = network.logits
    while isinstance(value.operator, Linear | Activate) and len(value.shape) == 1:
        if value in inside or (chain and not any(each.sums for each in parts)):
            break
        chain.append(value)
        value = value.inputs[0]
    while chain and not _is_layer(chain[-1]):
        chain.pop()
    return tuple(reversed(chain))


def parts_of(network: Network) -> tuple[tuple[Value, ...], ...]:
    """All values: what stands before the first block, those of each block, and what is behind."""
    found = blocks(network)
    first = Ancestry(network).between(None, found[0].start)
    taken = {value for part in (first, *(each.values for each in found)) for value in part}
    rest = tuple(value for value in network.values if value not in taken)
    return (first, *(each.values for each in found), rest)


def frontier(network: Network, wanted: Value, inside: Collection[Value]) -> tuple[Value, ...]:
    """The values that are all one must know of the inside to compute what is wanted.

    Args:
        network: The network.
        wanted: One of its values.
        inside: Values with all that they are made of.
    """
    ancestry, held = Ancestry(network), set(inside)
    found: set[Value] = set()
    seen = {wanted}
    unseen = [wanted]
    while unseen:
        value = unseen.pop()
        if value not in held:
            unseen += [each for each in value.inputs if each not in seen]
            seen.update(value.inputs)
        elif ancestry.reaches(network.pixels, value):
            found.add(value)
    return tuple(value for value in network.values if value in found)


def learnt_constants(network: Network) -> frozenset[Value]:
    """The constants that are weights: tokens, positions, biases.

    Not those that only multiply: the tables of rotary positions stay rotations. What has no axis,
    or more digits than float32, is a factor of the form and no weight, too.
    """
    read = readers(network)
    return frozenset(
        value
        for value in network.values
        if isinstance(value.operator, Constant)
        and value.operator.values.dtype == "float32"
        and value.shape
        and not _only_multiplies(value, read)
        and not any(_says_how_to_merge(each) for each in read[value])
    )


def _says_how_to_merge(reader: Value) -> bool:
    """Whether a value reads a constant that says how tokens are merged, or how many there are."""
    return isinstance(reader.operator, Merge | Count) or takes_means(reader)


def _only_multiplies(value: Value, read: Readers) -> bool:
    found = read[value]
    return bool(found) and all(
        isinstance(each.operator, Multiply) or (is_move(each) and _only_multiplies(each, read))
        for each in found
    )


def _is_layer(value: Value) -> bool:
    return isinstance(value.operator, Linear)
