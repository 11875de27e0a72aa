"""A network comes back from JSON and arrays as it was, and nothing that contradicts itself does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.merged_networks import merged_network
from tests.support.random_networks import STEMS, Plan, assembled_network
from tests.support.random_operators import composed_network
from tests.support.random_weights import random_pixels
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.saved import SCHEMA, described, restored


def saved(network: Network) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    description, arrays = described(network)
    return json.loads(json.dumps(description)), arrays


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("make", [assembled_network, composed_network, merged_network])
def test_a_network_comes_back_as_it_was(make: Callable[[int], Network], seed: int) -> None:
    network = make(seed)
    again = restored(*saved(network))
    assert [value.name for value in again.values] == [value.name for value in network.values]
    for before, after in zip(network.values, again.values, strict=True):
        assert type(after.operator) is type(before.operator)
        assert after.shape == before.shape
    assert again.preprocessing == network.preprocessing
    pixels = random_pixels(seed)
    expected, found = evaluate(network, pixels), evaluate(again, pixels)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


DESCRIPTION, ARRAYS = saved(assembled_network(1, Plan(stem="convolutions", pooling=Pooling.MEAN)))


def value_of(description: dict[str, Any], operator: str) -> dict[str, Any]:
    return next(each for each in description["values"] if each["operator"] == operator)


@pytest.mark.parametrize(
    ("operator", "change"),
    [
        ("Linear", {"operator": "System"}),
        ("Linear", {"operator": None}),
        ("Linear", {"inputs": [10_000]}),
        ("Linear", {"inputs": [-1]}),
        ("Linear", {"inputs": [True]}),
        ("Linear", {"inputs": []}),
        ("Linear", {"name": "another name"}),
        ("Linear", {"name": "pixels"}),
        ("Norm", {"kind": "batch"}),
        ("Norm", {"eps": "1e-6"}),
        ("Norm", {"eps": float("nan")}),
        ("Norm", {"eps": -1.0}),
        ("Activate", {"kind": "sin"}),
        ("Product", {"transposed": 1}),
        ("Reshape", {"to": [7, 5]}),
        ("Reshape", {"to": [-16, -12]}),
        ("Reshape", {"to": "16"}),
        ("Reshape", {"to": None}),
        ("Transpose", {"axes": [0, 0, 1]}),
        ("Take", {"axis": 7}),
        ("Take", {"axis": -1}),
        ("Take", {"places": [10_000]}),
        ("Take", {"places": []}),
        ("Concatenate", {"inputs": []}),
        ("Concatenate", {"axis": 9}),
        ("Mean", {"axis": 5}),
        ("Convolution", {"strides": [0, 0]}),
        ("Convolution", {"strides": [-1, -1]}),
        ("Convolution", {"strides": [2]}),
        ("Convolution", {"strides": [2, 2, 2]}),
        ("Convolution", {"padding": [[-3, 0], [0, 0]]}),
        ("Convolution", {"padding": [1, 1]}),
        ("Convolution", {"groups": 0}),
        ("Convolution", {"groups": -1}),
        ("Pixels", {"height": -8}),
        ("Pixels", {"height": 2.5}),
        ("Pixels", {"channels": 4}),
        ("Standardize", {"mean": [0.5]}),
        ("Standardize", {"std": [0.0, 1.0, 1.0]}),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(operator: str, change: dict[str, Any]) -> None:
    description = copy.deepcopy(DESCRIPTION)
    value_of(description, operator).update(change)
    with pytest.raises(ModelError):
        restored(description, ARRAYS)


@pytest.mark.parametrize("part", ["schema", "values", "outputs", "preprocessing", "labels"])
def test_a_description_without_one_of_its_parts_is_refused(part: str) -> None:
    description = {name: each for name, each in DESCRIPTION.items() if name != part}
    with pytest.raises(ModelError, match="do not fit"):
        restored(description, ARRAYS)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": SCHEMA + 1},
        {"schema": "1"},
        {"outputs": {}},
        {"outputs": {"logits": 10_000}},
        {"outputs": [3]},
        {"labels": ["one"]},
        {"values": []},
        {"values": {}},
        {"preprocessing": {}},
    ],
    ids=str,
)
def test_a_description_with_a_wrong_part_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        restored({**DESCRIPTION, **change}, ARRAYS)


def test_arrays_that_are_missing_or_of_another_type_or_shape_are_refused() -> None:
    name = "head.weight"
    without = {each: array for each, array in ARRAYS.items() if each != name}
    with pytest.raises(ModelError, match=r"'head\.weight' is missing"):
        restored(DESCRIPTION, without)
    for array in (
        ARRAYS[name].astype(np.float64), ARRAYS[name].astype(np.int8), ARRAYS[name][:-1],
        ARRAYS[name].ravel(), ARRAYS[name][None],
    ):  # fmt: skip
        with pytest.raises(ModelError):
            restored(DESCRIPTION, {**ARRAYS, name: array})


def test_a_newer_schema_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="update vitedge"):
        restored({**DESCRIPTION, "schema": SCHEMA + 1}, ARRAYS)


WRONG: tuple[Any, ...] = (None, True, -1, 0, 3, 10**6, 2.5, "", "x", [], [0], [-1], {}, [[0, 0]])


@pytest.mark.parametrize("stem", STEMS)
def test_random_damage_gives_a_network_or_one_error(stem: str) -> None:
    description, arrays = saved(assembled_network(2, Plan(stem=stem, attention="windows",
        pooling=None, prefix_tokens=0)))  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = copy.deepcopy(description)
        holder: Any = damaged
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = keys[int(rng.integers(len(keys)))]
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.9:
                holder = inner
                continue
            holder[key] = WRONG[int(rng.integers(len(WRONG)))]
            break
        try:
            network = restored(damaged, arrays)
        except ModelError:
            continue
        # Biases and names may be anything; what it computes has the shapes that it says.
        if network.image_shape == (8, 8, 3):
            with np.errstate(all="ignore"):
                found = evaluate(network, random_pixels())
            for name, value in network.outputs.items():
                assert found[name].shape[1:] == value.shape
