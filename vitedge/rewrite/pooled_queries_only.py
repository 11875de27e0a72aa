"""Computes only those tokens that are read.

Where a few tokens are taken out of many, and nobody reads the others, everything before that works
on each token by itself may as well work on those few: norms, linear layers, activations, sums. So
the taking moves back, until somebody reads the other tokens, too. In a vision transformer whose
head reads the class token that is the last block's attention: one query is left, and keys and
values of all tokens. Of 12 blocks this saves about 7 % of all multiplications.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from vitedge.network.channels import Uses
from vitedge.network.lowering import group_of
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Add, Convolution, Linear, Product, Reshape, Take
from vitedge.network.structure import is_move, readers
from vitedge.rewrite.moved_back import Part, Work, of_part


class PooledQueriesOnly:
    """Nothing is computed for tokens that nobody reads."""

    name = "pooled-queries-only"
    order = 90
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        while plan := next(filter(None, _plans(network)), None):
            network = _applied(network, plan)
        return network


@dataclass(frozen=True, eq=False)
class _Plan:
    """The plan of moving a choice of tokens back.

    Attributes:
        takes: The operators that are gone: all take the same part of one value.
        parts: The values of which only a part is computed, and which.
        works: The making of each of those values.
        unread: The values of which nothing is needed any more.
    """

    takes: tuple[Value, ...]
    parts: Mapping[Value, Part]
    works: Mapping[Value, Work]
    unread: Collection[Value]


def _plans(network: Network) -> Iterator[_Plan | None]:
    uses = Uses.of(network)
    for value in network.values:
        part = _part(value)
        if part is not None and value.inputs[0] not in uses.shown:
            takes = uses.readers[value.inputs[0]]
            if takes[0] is value and all(each.operator == value.operator for each in takes):
                yield _plan(network, takes, part, uses)


def _part(value: Value) -> Part | None:
    """The tokens that are taken, if at most half of them; of more, little would be saved."""
    match value.operator:
        case Take(axis=axis, places=places):
            read = value.inputs[0].shape
            is_few = axis < len(read) - 1 and 2 * len(places) <= read[axis]
            return Part(axis, places) if is_few else None
        case _:
            return None


def _plan(network: Network, takes: tuple[Value, ...], part: Part, uses: Uses) -> _Plan | None:
    """Plans, from the last value to the first, the part of it that all its readers need."""
    wanted: dict[Value, list[Part | None]] = {value: [None] for value in uses.shown}
    parts: dict[Value, Part] = {}
    works: dict[Value, Work] = {}
    unread: set[Value] = set()
    for value in reversed(network.values):
        wishes = wanted.pop(value, [])
        if not wishes:
            unread.add(value)
            continue
        wish = wishes[0] if all(each == wishes[0] for each in wishes) else None
        work = None if wish is None else of_part(value, wish)
        if wish is not None and work is not None:
            parts[value], works[value] = wish, work
            reads = work.inputs
        else:
            reads = tuple((each, part if value in takes else None) for each in value.inputs)
        for each, wants in reads:
            wanted.setdefault(each, []).append(wants)
    saves = any(isinstance(each.operator, Linear | Convolution | Product) for each in works)
    return _Plan(takes, parts, works, unread) if saves else None


def _applied(network: Network, plan: _Plan) -> Network:
    uses = Uses.of(network)
    names = {value.name for value in network.values}
    renamed = {
        reader: group for reader, group in _left_alone(plan.takes, uses) if group not in names
    }
    takes: dict[tuple[Value, Part, str], Value] = {}
    fewer = set[Value]()

    def taken(reader: Value, read: Value, part: Part, new: Value) -> Value:
        wanted = _name_of_part(reader)
        key = read, part, wanted
        if key not in takes:
            name = _free(wanted, names)
            names.add(name)
            takes[key] = Value(name, Take(part.axis, part.places), (new,))
        return takes[key]

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value in plan.takes or (value in plan.unread and inputs):
            return inputs[0]  # of what is unread anything will do
        if value not in plan.works:
            name = renamed.get(value)
            return None if name is None else Value(name, value.operator, inputs)
        new = dict(zip(value.inputs, inputs, strict=True))
        work = plan.works[value]
        operands = tuple(
            new[each]
            if part is None or plan.parts.get(each) == part
            else taken(value, each, part, new[each])
            for each, part in work.inputs
        )
        if work.operator is None:
            return operands[0]
        made = Value(value.name, work.operator, operands)
        fewer.add(made)
        return made

    return _in_order(rebuilt(network, change), fewer)


def _name_of_part(reader: Value) -> str:
    """The name of the part that a reader takes: the group's name, and the part's use."""
    group = group_of(reader.name)[0] or reader.name
    return f"{group}/kept" if isinstance(reader.operator, Add) else f"{group}/pooled"


def _free(name: str, names: Collection[str]) -> str:
    free, number = name, 1
    while free in names:
        number += 1
        free = f"{name}.{number}"
    return free


def _left_alone(takes: tuple[Value, ...], uses: Uses) -> Iterator[tuple[Value, str]]:
    """Reshapes of what is taken, and the name of the group that they are all that is left of."""
    for take in takes:
        reader, (group, _) = uses.sole_reader(take), group_of(take.name)
        is_reshaped = reader is not None and isinstance(reader.operator, Reshape)
        if reader is not None and is_reshaped and group_of(reader.name)[0] == group != "":
            yield reader, group


def _in_order(network: Network, fewer: Collection[Value]) -> Network:
    """The network with each move right behind the value that now has fewer tokens.

    It was one of several that were computed side by side, and is no longer.
    """
    read = readers(network)
    order: dict[Value, None] = {}

    def place(value: Value) -> None:
        order[value] = None
        for each in read[value]:
            if value in fewer and each in fewer and is_move(each) and len(each.inputs) == 1:
                place(each)

    for value in network.values:
        if value not in order:
            place(value)
    return replace(network, values=tuple(order))


PLUGIN = PooledQueriesOnly()
