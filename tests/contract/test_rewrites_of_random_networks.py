"""Every rewrite leaves what any network computes, or leaves the network alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.merged_networks import merged_network
from tests.support.random_networks import Plan, assembled_network, decoded_network, enlarged_network
from tests.support.random_operators import composed_network
from tests.support.random_weights import random_pixels
from vitedge.elements.kinds import Pooling
from vitedge.network.evaluate import evaluate
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network
from vitedge.network.operators import Array, Multiply, Norm, Standardize
from vitedge.rewrite import apply_rewrites, rewrites
from vitedge.rewrite.fold_norm_affine import PLUGIN as FOLD_NORM_AFFINE

# Rounding of float32 (6e-8) grows with the operations on the longest path and with the reordering
# of sums: 4e-6 was the most in 2,000 networks. A wrong formula is off by hundredths.
TOLERANCE = 2e-5

NAMES = [rewrite.name for rewrite in rewrites()]

MAKERS = {
    "elements": assembled_network,
    "operators": composed_network,
    "merged tokens": merged_network,
    "enlarged image": enlarged_network,
    "decoder": decoded_network,
}


def difference(expected: dict[str, Array], after: Network, seed: int) -> float:
    """Largest difference of an output from that expected, as a share of its largest number."""
    found = evaluate(after, random_pixels(seed))
    assert expected.keys() == found.keys()
    return max(
        float(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max())
        for name in expected
    )


@pytest.mark.thorough
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_rewrites_alone_and_together_leave_the_outputs(
    make: Callable[[int], Network], seed: int
) -> None:
    for each in range(seed, seed + 10):
        network = make(each)
        plain = FOLD_NORM_AFFINE.apply(network)  # many rewrites take gamma and beta for folded
        for before in dict.fromkeys([network, plain]):
            expected = evaluate(before, random_pixels(each))
            for rewrite in rewrites():
                after = rewrite.apply(before)
                if after is not before:
                    assert difference(expected, after, each) < TOLERANCE, (each, rewrite.name)
        expected = evaluate(network, random_pixels(each))
        for extra in ((), NAMES):
            rewritten, _ = apply_rewrites(network, extra=extra)
            assert difference(expected, rewritten, each) < TOLERANCE, (each, extra)


CENTRE = {"centre-stream", "centre-residual"}
ENLARGED = {"drop-empty-taps"}  # is of transposed convolutions alone
DECODED = {"multiply-sooner"}  # is of decoders and of layers on layers
TURNED = {"halve-pairs"}  # is of rotary positions alone
CUT = {"take-once"}  # is of windows that overlap

# Streams whose every reader is a plain LayerNorm are rare where all is put together at random.
NEVER = {
    "elements": ENLARGED | DECODED | CUT,
    "operators": ENLARGED | CENTRE | CUT,
    "merged tokens": ENLARGED | DECODED | CUT,
    "enlarged image": DECODED | CUT,
    "decoder": ENLARGED | CENTRE | CUT | {"pooled-queries-only"},
}


@pytest.mark.parametrize("kind", MAKERS)
def test_rewrites_act_on_random_networks(kind: str) -> None:
    acted = Counter(
        name for seed in range(60) for name in apply_rewrites(MAKERS[kind](seed), extra=NAMES)[1]
    )
    assert set(NAMES) - acted.keys() <= NEVER.get(kind, set())


ALL = set(NAMES)
TURNS_STREAM = {"rotate-residual", "scale-residual", *CENTRE}
TURNS_QUERIES = {"drop-key-bias", "balance-queries"}


def _differences(plan: Plan) -> str:
    plain = vars(Plan())
    return ", ".join(
        f"{name} {value}" for name, value in vars(plan).items() if plain[name] != value
    )


@pytest.mark.parametrize(
    ("plan", "without"),
    [
        (Plan(), set()),
        (Plan(attention="rotary"), TURNS_QUERIES),
        (Plan(attention="layer norm"), TURNS_QUERIES),
        (Plan(attention="cosine"), TURNS_QUERIES),
        (Plan(attention="relative bias"), set()),
        (Plan(attention="windows", pooling=None, prefix_tokens=0), {"pooled-queries-only"}),
        (Plan(mlp="swiglu"), set()),
        (Plan(mlp="normed swiglu"), set()),
        (Plan(kind=NormKind.RMS), CENTRE),
        (Plan(pooling=None), {"pooled-queries-only"}),
        (Plan(pooling=Pooling.CLASS_AND_MEAN), {"pooled-queries-only"}),
        (Plan(stem="two streams"), set()),
        (Plan(stem="enlarged"), set()),
        # Its second convolution is in groups, whose outputs no matrix may mix.
        (Plan(stem="convolutions"), {"rotate-residual"} | CENTRE),
        (Plan(stem="padded convolution"), {"fold-input-normalization"}),
        (Plan(stem="max pool"), {"fold-input-normalization", *TURNS_STREAM}),
        (Plan(norms="parallel"), set()),
        (Plan(norms="post"), TURNS_STREAM),
        (Plan(mlp="scaled"), TURNS_STREAM),
        (Plan(outputs="two heads"), {"pooled-queries-only"}),
        (Plan(outputs="stream too"), {"pooled-queries-only", *TURNS_STREAM}),
        (Plan(outputs="decoded"), {"pooled-queries-only", "scale-residual", *CENTRE}),
    ],
    ids=lambda value: _differences(value) if isinstance(value, Plan) else "",
)  # fmt: skip
def test_a_rewrite_acts_where_it_holds(plan: Plan, without: set[str]) -> None:
    _, applied = apply_rewrites(assembled_network(3, plan), extra=NAMES)
    unenlarged = set() if plan.stem == "enlarged" else ENLARGED
    unturned = set() if plan.attention == "rotary" else TURNED
    undecoded = set() if plan.outputs == "decoded" else DECODED
    assert set(applied) == ALL - without - unenlarged - unturned - undecoded - CUT


def test_keys_of_learned_queries_lose_their_bias_and_those_queries_take_the_scale() -> None:
    network = assembled_network(1, Plan(pooling=None))
    rewritten, _ = apply_rewrites(network)
    before, after = (dict(each.named_linears()) for each in (network, rewritten))
    assert np.any(before["pool.k"].bias)
    assert not np.any(after["pool.k"].bias)
    assert not any(value.name == "pool/scaled" for value in rewritten.values)


def test_norms_keep_what_others_than_layers_read() -> None:
    rewritten, _ = apply_rewrites(assembled_network(1, Plan(outputs="tokens too")))
    norms = {value.name: value.operator for value in rewritten.values}
    final, first = norms["norm"], norms["blocks.0.norm1"]
    assert isinstance(final, Norm)
    assert isinstance(first, Norm)
    assert not final.is_plain
    assert first.is_plain


def test_what_nobody_reads_of_rotary_positions_is_not_computed() -> None:
    """The class token is not turned, so neither are the queries of the last block."""
    network = assembled_network(1, Plan(attention="rotary"))
    rewritten, _ = apply_rewrites(network)
    names = {value.name for value in rewritten.values}
    assert "blocks.0/q/turned/swapped" in names
    assert "blocks.1/q/turned/swapped" not in names
    assert "blocks.1/k/turned/swapped" in names


def test_no_normalisation_is_left_before_convolutions_without_padding() -> None:
    for stem, is_left in (("convolutions", False), ("padded convolution", True)):
        rewritten, _ = apply_rewrites(assembled_network(1, Plan(stem=stem)))
        kinds = [type(value.operator) for value in rewritten.values]
        assert (Standardize in kinds) is is_left


def test_factors_between_scores_and_softmax_are_gone() -> None:
    for way in ("plain", "rotary", "cosine", "relative bias"):
        rewritten, _ = apply_rewrites(assembled_network(1, Plan(attention=way)))
        left = [value for value in rewritten.values if isinstance(value.operator, Multiply)]
        assert all("turned" in value.name for value in left)
