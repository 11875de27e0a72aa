"""Chooses the tensors of an all-integer graph that have 8 bits and those that have 16."""

from __future__ import annotations

import math

from vitedge.errors import ConversionError
from vitedge.network.kinds import Activation
from vitedge.network.lowering import group_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Linear,
    Match,
    Multiply,
    Product,
    Resize,
    Softmax,
)
from vitedge.network.structure import (
    Readers,
    feeds_activation,
    feeds_product,
    is_move,
    layers_on,
    reads_image,
    source_of,
)

# Linear layers that see one or two tokens cost no time unless they are large, but the whole signal
# passes there: their numbers are wide.
FEW_TOKENS = 2


def ends(value: Value, read: Readers) -> bool:
    """Whether outputs are made of a value, and of functions of its own numbers only.

    What makes a map's logits is such a value: like those of classes they are wide.
    """
    return all(
        (is_move(each) or isinstance(each.operator, Resize | Activate | Add | Multiply))
        and all(other is value or other.is_constant for other in each.inputs)
        and ends(each, read)
        for each in read[value]
    )


def is_always_narrow(layer: Value, read: Readers) -> bool:
    """Whether what a linear layer makes is narrow however few tokens it sees.

    Queries meet keys in a product; activation tables of 16 bits are not to be had everywhere. What
    such a layer reads is narrow too, and so is what other layers make of the same value.
    """
    return any(
        feeds_product(each, read) or feeds_activation(each, read)
        for each in layers_on(layer.inputs[0], read)
    )


def is_narrow(layer: Value, read: Readers) -> bool:
    """Whether a linear layer reads and makes 8 bits, unless somebody asks for 16."""
    if ends(layer, read) and len(layers_on(layer.inputs[0], read)) == 1:
        return False
    if is_always_narrow(layer, read):
        return True
    return math.prod(layer.shape[:-1]) > FEW_TOKENS and not reads_image(layer)


def is_narrow_convolution(convolution: Value, read: Readers) -> bool:
    """Whether a convolution reads and makes 8 bits; the first and the last are wide, as layers."""
    return not reads_image(convolution) and not ends(convolution, read)


def mixes_shares(product: Value) -> bool:
    """Whether a product's first factor are the shares of a softmax, which are always wide."""
    return isinstance(source_of(product.inputs[0]).operator, Softmax)


def operand_names(network: Network) -> dict[Value, tuple[str, str]]:
    """The names of both factors of each product, for those that are made narrow to be read.

    They are named after the group that the product is of, as ``blocks.3/queries``; where that name
    is taken, after the product itself.
    """
    taken = {value.name for value in network.values}
    found = {}
    for value in network.values:
        if not isinstance(value.operator, Product):
            continue
        parts = ("queries", "keys") if value.operator.transposed else ("shares", "values")
        group, _ = group_of(value.name)
        names = [f"{group}/{part}" if group else part for part in parts]
        if not taken.isdisjoint(names):
            names = [f"{value.name}/{part}" for part in parts]
        taken.update(names)
        found[value] = (names[0], names[1])
    return found


def require_integers(network: Network) -> None:
    """Refuses a network that no graph without float operators can hold.

    Raises:
        ConversionError: Tokens are merged by what is in the picture, or one value is divided by
            another.
    """
    if any(isinstance(value.operator, Match) for value in network.values):
        raise ConversionError(
            "an all-integer artefact cannot merge tokens by what is in the picture; choose int8 "
            "or leave out --tokens"
        )
    for value in network.values:
        if value.operator == Activate(Activation.RECIPROCAL):
            raise ConversionError(
                f"an all-integer artefact cannot hold '{value.name}' (a quotient of two values); "
                "choose int8, which keeps it in float"
            )


def linear(value: Value) -> Linear:
    """The layer that makes a value of which that is known."""
    assert isinstance(value.operator, Linear)
    return value.operator
