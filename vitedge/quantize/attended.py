"""Weighs the errors of queries, keys and values by the attention that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitedge.network.network import Network, Value
from vitedge.network.operators import Linear, Norm, Product, Reshape, Transpose
from vitedge.network.structure import attentions, is_move, readers


@dataclass(frozen=True, eq=False)
class Attended:
    """The linear layers around one attention, as far as each row and channel is told apart there.

    Attributes:
        shares: The output of the softmax.
        by_token: Layers of keys and values: each row of theirs is a token that is attended to.
        queries: The layer of the queries, None if they are not its outputs cut into heads.
        keys: The layer of the keys, likewise.
        values: The layer of the values, likewise.
        out: The layer that reads the mixed heads side by side, and nothing else does.
    """

    shares: Value
    by_token: tuple[Value, ...]
    queries: Value | None
    keys: Value | None
    values: Value | None
    out: Value | None


def attended(network: Network) -> tuple[Attended, ...]:
    """All attentions of the network, in order."""
    read = readers(network)
    shown = set(network.outputs.values())
    found = []
    for each in attentions(network):
        out = None
        last = each.mixed
        chain: list[Value] = []
        while len(read[last]) == 1 and last not in shown and len(chain) < 3:
            (last,) = read[last]
            chain.append(last)
        match [value.operator for value in chain]:
            case [Transpose(axes=(1, 0, 2)), Reshape(to=(_, width)), Linear()]:
                heads, _, part = each.mixed.shape
                out = chain[-1] if width == heads * part else None
        behind = (cut_layer(each.keys, past_norms=True), cut_layer(each.values, past_norms=True))
        found.append(
            Attended(
                shares=each.shares,
                by_token=tuple(layer for layer in behind if layer is not None),
                queries=cut_layer(each.queries),
                keys=cut_layer(each.keys),
                values=cut_layer(each.values),
                out=out,
            )
        )
    return tuple(found)


def cut_layer(value: Value, *, past_norms: bool = False) -> Value | None:
    """The linear layer whose outputs, cut into heads ``(heads, tokens, width)``, a value is."""
    while past_norms and isinstance(value.operator, Norm):
        (value,) = value.inputs
    turned = value.inputs[0] if value.inputs else value
    layer = turned.inputs[0] if turned.inputs else turned
    match value.operator, turned.operator, layer.operator:
        case Transpose(axes=(1, 0, 2)), Reshape(to=(tokens, heads, width)), Linear():
            return layer if layer.shape == (tokens, heads * width) else None
        case _:
            return None


def right_factors(network: Network) -> frozenset[Value]:
    """The second factors of products, seen through moves and norms."""

    def behind(value: Value) -> Iterator[Value]:
        yield value
        if is_move(value) or isinstance(value.operator, Norm):
            for each in value.inputs:
                yield from behind(each)

    products = (value for value in network.values if isinstance(value.operator, Product))
    return frozenset(each for product in products for each in behind(product.inputs[1]))
