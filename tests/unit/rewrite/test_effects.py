"""What each rewrite is for has happened, and where it must not happen it has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.models import random_network
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Constant, Linear, Norm, Standardize
from vitedge.rewrite import apply_more, apply_rewrites
from vitedge.rewrite.scale_residual import PLUGIN as SCALE_RESIDUAL


def layers(network: Network, part: str) -> dict[str, Linear]:
    """The linear layers of all blocks with this name."""
    return {name: layer for name, layer in network.named_linears() if name.endswith(f".{part}")}


def norms(network: Network) -> dict[str, Norm]:
    return {
        value.name: value.operator for value in network.values if isinstance(value.operator, Norm)
    }


def test_no_bias_scale_gamma_or_normalisation_is_left_in_a_plain_vit() -> None:
    network, _ = apply_rewrites(random_network())
    assert not any(isinstance(value.operator, Standardize) for value in network.values)
    assert not any(value.name.endswith("/scaled") for value in network.values)
    for part in "kv":
        found = layers(network, part)
        assert len(found) == 2
        assert not any(np.any(layer.bias) for layer in found.values())
    assert len(norms(network)) == 5
    assert all(norm.is_plain for norm in norms(network).values())


def test_the_last_block_computes_the_class_token_alone() -> None:
    network, _ = apply_rewrites(random_network())
    shapes = {value.name: value.shape for value in network.values}
    assert shapes["blocks.0.q"] == shapes["blocks.1.k"] == (17, 24)
    assert shapes["blocks.1/pooled"] == shapes["blocks.1.q"] == (1, 24)
    assert shapes["blocks.1/kept"] == shapes["blocks.1.fc2"] == (1, 24)
    assert shapes["pooled"] == (24,)


def test_the_bias_of_normalised_keys_stays() -> None:
    network, _ = apply_rewrites(random_network(qk_norm=True))
    assert all(np.any(layer.bias) for layer in layers(network, "k").values())


def test_a_post_norm_vit_keeps_the_gamma_that_feeds_its_sums() -> None:
    network, _ = apply_rewrites(random_network(norm_position=NormPosition.POST))
    kept = [norm for name, norm in norms(network).items() if name.endswith("norm1")]
    assert len(kept) == 2
    assert not any(norm.is_plain for norm in kept)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLASS_AND_MEAN, Pooling.FLATTEN])
def test_all_queries_stay_where_the_head_reads_patches(pooling: Pooling) -> None:
    _, applied = apply_rewrites(random_network(pooling=pooling))
    assert "pooled-queries-only" not in applied


def test_a_scaled_stream_leaves_room_to_square_it_in_half_precision() -> None:
    network, _ = apply_rewrites(random_network())
    scaled = SCALE_RESIDUAL.apply(network)
    for before, after in zip(norms(network).values(), norms(scaled).values(), strict=True):
        assert after.eps == before.eps / 256
    before, after = (dict(each.named_linears()) for each in (network, scaled))
    np.testing.assert_array_equal(after["patch"].weight * 16, before["patch"].weight)
    for index in range(2):
        name = f"blocks.{index}"
        np.testing.assert_array_equal(after[f"{name}.fc2"].bias * 16, before[f"{name}.fc2"].bias)
        assert after[f"{name}.fc1"].weight is before[f"{name}.fc1"].weight


def test_massive_tokens_are_gone_from_a_centred_stream() -> None:
    network = random_network()
    (positions,) = (each for each in network.values if each.name == "positions")
    assert isinstance(positions.operator, Constant)
    usual = positions.operator.values
    massive = with_operators(network, {positions: Constant(usual + np.float32(300))})
    centred, applied = apply_rewrites(massive, extra=["centre-stream"])
    assert "centre-stream" in applied
    found = dict(centred.named_arrays())["positions"]
    assert np.abs(found).max() < 2 * np.abs(usual).max()


def test_norms_of_a_centred_stream_need_no_other_weights() -> None:
    network, _ = apply_rewrites(random_network(), extra=["centre-stream"])
    plain, _ = apply_more(network, ["centre-residual"])
    assert all(norm.kind is NormKind.RMS for norm in norms(plain).values())
    pairs = zip(network.named_arrays(), plain.named_arrays(), strict=True)
    for (name, before), (_, after) in pairs:
        assert before is after, name


def test_a_post_norm_stream_is_not_scaled() -> None:
    network = random_network(norm_position=NormPosition.POST)
    assert SCALE_RESIDUAL.apply(network) is network


def test_a_stream_that_an_output_shows_stays_in_its_basis() -> None:
    network, _ = apply_rewrites(random_network(), without=["rotate-residual"])
    (stream,) = (each for each in network.values if each.name == "blocks.0/out")
    shown = replace(network, outputs={**network.outputs, "stream": stream})
    _, applied = apply_rewrites(shown, extra=["scale-residual", "centre-residual"])
    assert not {"rotate-residual", "scale-residual", "centre-residual"} & set(applied)
