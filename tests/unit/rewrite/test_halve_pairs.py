"""Channels that rotary positions turn together lie in halves, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.support.networks import DIM, HEADS, SIDE, WIDTH, Random
from vitedge.elements.rope import Pairing, rope
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, Value
from vitedge.network.operators import Concatenate, Reshape, Take
from vitedge.rewrite.halve_pairs import PLUGIN

TOKENS = (SIDE // 4) ** 2
PREFIX = 2


def attention(
    pairing: Pairing = Pairing.NEIGHBOURS,
    *,
    normed: bool = False,
    by_head: bool = False,
    of_keys: Pairing | None = None,
    shows: str = "",
    width: int = WIDTH,
) -> Network:
    """Two blocks of attention with rotary positions behind two prefix tokens."""
    made = Random(51)
    x = made.tokens()
    prefix = made.constant("prefix", PREFIX, DIM)
    x = made.net("with_prefix", Concatenate(0), prefix, x)
    angles = made.array(*([HEADS] if by_head else []), TOKENS, WIDTH // 2)
    shown: dict[str, Value] = {}
    for block in ("blocks.0", "blocks.1"):
        q, k, v = made.heads(x, block)
        if normed:
            q, k = made.norm(f"{block}.q_norm", q), made.norm(f"{block}.k_norm", k)
        if width < WIDTH:  # only some channels are turned
            q, k = (
                made.net(f"{each.name}/part", Take(2, tuple(range(width))), each) for each in (q, k)
            )
        turns = [
            rope(angles[..., : width // 2], each, prefix_tokens=PREFIX)
            for each in (pairing, of_keys or pairing)
        ]
        q, k = (
            turn(made.net, each, f"{block}/{name}/turned")
            for turn, each, name in zip(turns, (q, k), "qk", strict=True)
        )
        if shows and block == "blocks.1":
            shown = {shows: q}
        mixed = made.mixed(made.scores(q, k, block), v, block)
        x = made.linear(f"{block}.out", made.joined(mixed, block), DIM)
    return made.network(tokens=x, **shown)


def swaps(network: Network) -> list[tuple[int, ...]]:
    return [
        each.operator.places
        for each in network.values
        if isinstance(each.operator, Take) and each.operator.axis == len(each.shape) - 1
    ]


@pytest.mark.parametrize(
    "made",
    [
        attention,
        lambda: attention(normed=True),
        lambda: attention(by_head=True),
    ],
)
def test_neighbours_come_to_lie_in_halves(made: Callable[[], Network]) -> None:
    network = made()
    rewritten = PLUGIN.apply(network)
    half = WIDTH // 2
    assert swaps(rewritten) == [(*range(half, WIDTH), *range(half))] * 4
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)
    wanted = evaluate(network, pixels)["tokens"]
    np.testing.assert_allclose(evaluate(rewritten, pixels)["tokens"], wanted, rtol=0, atol=1e-5)
    assert [each.name for each in rewritten.values if not each.is_constant] == [
        each.name for each in network.values if not each.is_constant
    ]
    assert PLUGIN.apply(rewritten) is rewritten


@pytest.mark.parametrize(
    "made",
    [
        lambda: attention(Pairing.HALVES),
        # Queries and keys must have the same order.
        lambda: attention(of_keys=Pairing.HALVES),
        # A layer whose channels are turned in part has none of its own for them.
        lambda: attention(width=WIDTH - 4),
    ],
)
def test_what_is_in_halves_or_not_understood_stays(made: Callable[[], Network]) -> None:
    network = made()
    assert PLUGIN.apply(network) is network


def test_what_an_output_shows_keeps_its_order() -> None:
    network = attention(shows="queries")
    rewritten = PLUGIN.apply(network)
    assert len(set(swaps(rewritten))) == 2  # one block each
    pixels = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    wanted = evaluate(network, pixels)
    for name, found in evaluate(rewritten, pixels).items():
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=1e-5)


def test_queries_that_no_layer_makes_keep_their_order_and_so_do_their_keys() -> None:
    made = Random(52)
    x = made.tokens()
    _, k, v = made.heads(x, "pool")
    turn = rope(made.array(TOKENS, WIDTH // 2), Pairing.NEIGHBOURS)
    learnt = made.constant("queries", HEADS, 3, WIDTH)
    flat = made.net(
        "flat", Reshape((HEADS, 3, WIDTH)), made.constant("flat/row", 1, HEADS * 3 * WIDTH)
    )
    for name, queries in (("learnt", learnt), ("flat", flat)):
        scores = made.scores(queries, turn(made.net, k, f"{name}/k/turned"), name)
        network = made.network(pooled=made.mixed(scores, v, name))
        assert PLUGIN.apply(network) is network


def test_constants_that_two_attentions_share_are_put_in_order_once() -> None:
    network = attention()
    rewritten = PLUGIN.apply(network)
    constants = [each.name for each in rewritten.values if each.is_constant]
    assert len(constants) == len(set(constants))
    # Cosines and sines of queries and keys of two blocks.
    assert sum("/halves/" in name for name in constants) == 8
