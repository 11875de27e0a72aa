"""Further outputs by name: the embedding, the tokens, their map, what a block leaves behind.

Each is what a linear layer of ones on the diagonal makes of the value. Rewrites turn, scale or
shift the stream for all of its readers, and undo it in the weights of each; so they do for such an
output, which comes out as the model's author would have it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitedge.errors import UsageError
from vitedge.network.blocks import Block, blocks
from vitedge.network.network import Network, Value
from vitedge.network.operators import Concatenate, Linear, Norm, Reshape, Take
from vitedge.network.patch_grid import patch_grid
from vitedge.network.structure import readers
from vitedge.rewrite.features import FEATURES, with_features

EMBEDDING, TOKENS, MAP = "embedding", "tokens", "map"
_BLOCK = re.compile(r"block\.(\d{1,4})")


def check_names(names: Sequence[str]) -> None:
    """Refuses names that no network has an output for.

    Raises:
        UsageError: One is unknown.
    """
    for name in names:
        if name not in (EMBEDDING, TOKENS, MAP) and not _BLOCK.fullmatch(name):
            raise UsageError(
                f"'{name}' is not an output of a network: choose among {EMBEDDING}, {TOKENS}, "
                f"{MAP} and block.0, block.1 ..."
            )


def with_outputs(network: Network, names: Sequence[str]) -> Network:
    """The network with further outputs, in this order.

    Args:
        network: The model, before any rewrite.
        names: ``embedding`` is the vector that the head's last layer reads; ``tokens`` are those
            behind the last block and its norm, ``map`` those of the patches at their places
            ``(rows, columns, width)``; ``block.0`` is what the first block leaves of the stream.

    Raises:
        UsageError: A name is unknown, is an output already, or the network has no such value.
        ConversionError: The logits are not what a linear layer makes of a vector.
    """
    check_names(names)
    model = network
    for name in dict.fromkeys(names):
        if name in network.outputs:
            raise UsageError(f"the model gives its {name} already; leave it out of --also")
        network = _with_output(network, name, model)
    return network


def _with_output(network: Network, name: str, model: Network) -> Network:
    """The network with one output more.

    Args:
        network: The model with the outputs that it has by now.
        name: The output.
        model: The model alone, which says what its tokens and blocks are.
    """
    if name == EMBEDDING and FEATURES in network.outputs:
        features = network.outputs[FEATURES]
        return replace(network, outputs={**network.outputs, EMBEDDING: features})
    if name == EMBEDDING:
        return with_features(network, EMBEDDING)
    if name == TOKENS:
        return _ending(network, name, _tokens(model))
    if name == MAP:
        tokens = _tokens(model)
        first, grid = _patches(model, tokens)
        places = tuple(range(first, first + grid[0] * grid[1]))
        taken = Value(f"outputs/{name}/patches", Take(0, places), (tokens,))
        return _ending(network, name, tokens, taken, shape=(*grid, tokens.shape[1]))
    found = _BLOCK.fullmatch(name)
    assert found is not None
    parts = blocks(model)
    number = int(found[1])
    if number >= len(parts):
        raise UsageError(f"the model has {len(parts)} blocks, from block.0 on, and no {name}")
    return _ending(network, name, _left_by(parts[number]))


def _left_by(block: Block) -> Value:
    """The stream behind a block, before patches are merged for the next stage."""
    if not block.sums:
        return block.end
    last = block.sums[-1].value
    is_normed = isinstance(block.end.operator, Norm) and block.end.inputs[0] is last
    return block.end if is_normed else last


def _ending(
    network: Network,
    name: str,
    value: Value,
    taken: Value | None = None,
    shape: tuple[int, ...] | None = None,
) -> Network:
    """The network with an output that is a value, or what was taken of it in another shape."""
    width = value.shape[-1]
    layer = Linear(np.eye(width, dtype=np.float32), np.zeros(width, np.float32))
    added = [] if taken is None else [taken]
    read, name_of_last = taken or value, f"outputs/{name}"
    last = Value(name_of_last if shape is None else f"{name_of_last}/tokens", layer, (read,))
    added.append(last)
    if shape is not None:
        last = Value(name_of_last, Reshape(shape), (last,))
        added.append(last)
    return replace(
        network, values=(*network.values, *added), outputs={**network.outputs, name: last}
    )


def _tokens(network: Network) -> Value:
    """The stream behind the last block, and behind the one norm that reads it.

    Raises:
        UsageError: The network has no tokens there.
    """
    value = blocks(network)[-1].end
    norms = [each for each in readers(network)[value] if isinstance(each.operator, Norm)]
    if len(norms) == 1:
        value = norms[0]
    if len(value.shape) != 2:
        raise UsageError(
            f"the model's last block leaves {value.shape} behind, and no tokens to give"
        )
    return value


def _patches(network: Network, tokens: Value) -> tuple[int, tuple[int, int]]:
    """The place of the first patch among the tokens, and the rows and columns of all patches.

    Raises:
        UsageError: The tokens are not the patches of a grid with others before or behind them.
    """
    grids = (patch_grid(value) for value, _ in network.linears())
    found = next((each for each in grids if each is not None), None)
    if found is not None:
        count = found.grid[0] * found.grid[1]
        if tokens.shape[0] == count:
            return 0, found.grid
        for value in network.values:
            lengths = [each.shape[0] for each in value.inputs if each.shape]
            is_joined = isinstance(value.operator, Concatenate) and value.operator.axis == 0
            if is_joined and value.shape == tokens.shape and lengths.count(count) == 1:
                return sum(lengths[: lengths.index(count)]), found.grid
        rows, columns = found.grid
        raise UsageError(
            f"the model's last block leaves {tokens.shape[0]} tokens, which are not its grid of "
            f"{rows} x {columns} patches, so there is no map to give"
        )
    raise UsageError("the model's tokens are not the patches of a grid, so there is no map to give")
