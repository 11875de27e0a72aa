"""Merged tokens: what is alike is merged without a loss, and what cannot be followed is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.merged_networks import TWICE, merged_tokens, merged_vit
from tests.support.models import random_images, random_network
from tests.support.random_networks import Plan, assembled_network
from tests.support.random_weights import random_pixels
from vitedge.elements.kinds import Pooling
from vitedge.errors import ConversionError
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Constant, Match, Merge
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.alike_on_average import with_groups
from vitedge.rewrite.further_outputs import with_outputs
from vitedge.rewrite.merge_tokens import Merging, merge_tokens, places
from vitedge.rewrite.token_schedule import scheduled

# As for rewrites: rounding of float32 along the longest path.
TOLERANCE = 2e-5

PLANS = {
    "class": Plan(),
    "registers": Plan(prefix_tokens=3),
    "mean": Plan(pooling=Pooling.MEAN),
    "class and mean": Plan(pooling=Pooling.CLASS_AND_MEAN),
    "distilled": Plan(prefix_tokens=2, pooling=Pooling.DISTILLED),
    "flattened": Plan(pooling=Pooling.FLATTEN),
    "attention pooling": Plan(pooling=None),
    "tokens too": Plan(outputs="tokens too"),
    "stream too": Plan(outputs="stream too"),
    "joined with what was embedded": Plan(outputs="joined"),
    "post-norm": Plan(norms="post"),
    "sandwich": Plan(norms="sandwich"),
    "parallel": Plan(norms="parallel"),
    "swiglu": Plan(mlp="swiglu"),
    "normed keys": Plan(attention="cosine"),
    "no prefix": Plan(prefix_tokens=0, pooling=Pooling.MEAN),
}


def of_twins(network: Network) -> tuple[Network, np.ndarray]:
    """The network without positions, and pictures in which each two neighbouring patches are alike.

    A patch is two pixels wide, so four columns in a row are two patches.
    """
    (positions,) = (each for each in network.values if each.name == "positions")
    assert isinstance(positions.operator, Constant)
    without = with_operators(network, {positions: Constant(0 * positions.operator.values)})
    pixels = random_pixels(1)
    twins = pixels.reshape(len(pixels), 8, 2, 2, 2, 3)
    twins[:, :, :, 1] = twins[:, :, :, 0]
    return without, twins.reshape(pixels.shape)


@pytest.mark.parametrize("name", PLANS)
def test_merging_tokens_that_are_alike_changes_no_output(name: str) -> None:
    network, pixels = of_twins(assembled_network(3, PLANS[name], depth=3))
    expected = evaluate(network, pixels)
    merged = merge_tokens(network, [Merging(1, 8)])
    (match,) = (each for each in merged.values if isinstance(each.operator, Match))
    assert match.shape == (8 + PLANS[name].prefix_tokens, 16 + PLANS[name].prefix_tokens)
    found = evaluate(merged, pixels)
    assert found.keys() == expected.keys()
    for output, values in expected.items():
        assert found[output].shape == values.shape
        error = np.abs(found[output] - values).max() / np.abs(values).max()
        assert error < TOLERANCE, output


@pytest.mark.parametrize("name", PLANS)
def test_tokens_that_are_alike_in_every_picture_are_found_and_merged_without_a_loss(
    name: str,
) -> None:
    network, pixels = of_twins(assembled_network(3, PLANS[name], depth=3))
    expected, prefix = evaluate(network, pixels), PLANS[name].prefix_tokens
    (step,) = with_groups(network, [Merging(1, 8)], lambda: iter(pixels))
    pairs = tuple(prefix + patch // 2 for patch in range(16))
    assert step.groups == (*range(prefix), *pairs)
    merged = merge_tokens(network, [step])
    assert not any(isinstance(each.operator, Match) for each in merged.values)
    for output, values in evaluate(merged, pixels).items():
        assert values.shape == expected[output].shape
        error = np.abs(expected[output] - values).max() / np.abs(values).max()
        assert error < TOLERANCE, output


@pytest.mark.parametrize("also", ["map", "tokens", "block.1", "embedding"])
def test_further_outputs_have_all_tokens_at_their_places(also: str) -> None:
    network, pixels = of_twins(assembled_network(3, PLANS["registers"], depth=3))
    network = with_outputs(network, [also])
    expected = evaluate(network, pixels)[also]
    for step in (Merging(1, 8), *with_groups(network, [Merging(1, 8)], lambda: iter(pixels))):
        found = evaluate(merge_tokens(network, [step]), pixels)[also]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() / np.abs(expected).max() < TOLERANCE


def test_later_groups_are_found_behind_earlier_ones_and_merge_as_often_as_asked() -> None:
    network = assembled_network(3, PLANS["class"], depth=3)
    steps = with_groups(network, TWICE, lambda: iter(random_pixels(2)))
    assert [len(each.groups or ()) for each in steps] == [17, 15]
    merged = merge_tokens(network, steps)
    often = next(each for each in reversed(merged.values) if each.name.endswith("/often"))
    assert isinstance(often.operator, Constant)
    counts = np.exp(often.operator.values)
    assert counts.shape == (17 - 2 - 3,)
    assert counts.sum() == pytest.approx(17)
    assert counts[0] == 1  # the class token


@pytest.mark.parametrize(
    "groups",
    [
        (0, *range(1, 16)),
        (0, *range(1, 16), 17),
        (1, 0, *range(2, 16), 15),
        (0, 0, *range(1, 16)),
        (0, *range(1, 16), -1),
    ],
    ids=["too few", "one missing", "moved class token", "merged class token", "negative"],
)
def test_groups_that_do_not_fit_are_refused(groups: tuple[int, ...]) -> None:
    network = assembled_network(3, PLANS["mean"], depth=3)
    assert places(network)[0].fixed == 1
    with pytest.raises(ConversionError, match="the groups are not of 16 of its 17 tokens"):
        merge_tokens(network, [Merging(0, 1, groups)])


def test_alike_on_average_is_not_found_behind_tokens_that_were_chosen() -> None:
    network = assembled_network(3, PLANS["class"], depth=3)
    groups = (*range(15 - 3), 1, 2, 3)
    with pytest.raises(ConversionError, match="merge them all so"):
        merge_tokens(network, [Merging(0, 2), Merging(1, 3, groups)])


@pytest.mark.parametrize("name", PLANS)
def test_merged_networks_do_less_and_keep_what_they_show(name: str) -> None:
    network = assembled_network(3, PLANS[name], depth=3)
    merged = merge_tokens(network, TWICE)
    assert merged.macs < network.macs
    assert {each: value.shape for each, value in merged.outputs.items()} == {
        each: value.shape for each, value in network.outputs.items()
    }
    assert sum(isinstance(each.operator, Merge) for each in merged.values) == 2


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_learned_tokens_are_never_merged(prefix: int) -> None:
    network = assembled_network(0, Plan(prefix_tokens=prefix, pooling=Pooling.MEAN), depth=2)
    assert [place and place.fixed for place in places(network)] == [prefix, prefix]
    merged = merge_tokens(network, [Merging(0, 8)])
    (match,) = (each for each in merged.values if isinstance(each.operator, Match))
    assert match.operator == Match(8, prefix)
    with pytest.raises(ConversionError, match="9 cannot be merged"):
        merge_tokens(network, [Merging(0, 9)])


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(attention="rotary"), "tells them apart"),
        (Plan(attention="relative bias"), "tells them apart"),
        (Plan(attention="windows", pooling=None, prefix_tokens=0), "not one attention between all"),
    ],
    ids=["rotary", "relative bias", "windows"],
)
def test_positions_that_meet_tokens_one_by_one_are_refused(plan: Plan, words: str) -> None:
    network = assembled_network(3, plan, depth=3)
    with pytest.raises(ConversionError, match=words):
        merge_tokens(network, TWICE)


def test_convolutions_between_blocks_are_refused() -> None:
    plan = Plan(mlp="convolution", pooling=Pooling.MEAN, prefix_tokens=0)
    with pytest.raises(ConversionError, match="combines them with others one by one"):
        merge_tokens(assembled_network(3, plan, depth=3), TWICE)


def test_rewrites_reach_through_merged_tokens() -> None:
    network = random_network(5, depth=3)
    constant = with_groups(network, TWICE, lambda: iter(random_images(network, 2)))
    plain, merged, grouped = (
        set(apply_rewrites(each, extra=["centre-stream", "centre-residual"])[1])
        for each in (network, merged_vit(), merge_tokens(network, constant))
    )
    assert merged == grouped == plain


def test_a_network_is_left_as_it_was() -> None:
    network = assembled_network(3, PLANS["class"], depth=3)
    before = [(each.name, each.operator, each.shape) for each in network.values]
    merge_tokens(network, TWICE)
    assert before == [(each.name, each.operator, each.shape) for each in network.values]


@pytest.mark.parametrize("share", [0.95, 0.85, 0.75])
def test_a_schedule_leaves_the_share_that_was_asked_for(share: float) -> None:
    network = random_network(depth=12, image_size=(80, 80))
    found = scheduled(network, share)
    assert share - 0.03 < found.share <= share + 0.011
    assert found.share == pytest.approx(found.network.macs / network.macs)
    assert all(each.block >= 3 for each in found.schedule)  # a third of the blocks sees all tokens


def test_less_work_than_merging_leaves_is_refused_with_the_least_there_is() -> None:
    network = random_network(depth=12, image_size=(80, 80))
    with pytest.raises(ConversionError, match=r"take --tokens (0\.\d\d) or more") as refused:
        scheduled(network, 0.2)
    least = float(str(refused.value).split("--tokens ")[1].split()[0])
    for share in (least, (least + 0.6) / 2, 0.6):
        assert scheduled(network, share).share <= share + 0.011


def test_models_without_tokens_to_merge_say_so() -> None:
    network = assembled_network(3, Plan(attention="windows", pooling=None, prefix_tokens=0))
    with pytest.raises(ConversionError, match="leave out --tokens"):
        scheduled(network, 0.7)


def test_what_is_given_back_is_what_each_place_was_merged_into() -> None:
    network = merged_tokens()
    pixels = random_pixels(3)
    tokens = evaluate(network, pixels)["tokens"]
    prefix = tokens.shape[1] - 16
    unlike = [len(np.unique(image[prefix:], axis=0)) for image in tokens]
    assert unlike == [16 - 2 - 3] * len(tokens)
