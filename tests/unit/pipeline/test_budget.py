"""``--max-drop``: as few layers as possible out of 8 bits, or an error that says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from tests.support.task_artifacts import network_of_task
from vitedge.artifacts.metadata import read_metadata
from vitedge.errors import BudgetError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples, Sample
from vitedge.network.evaluate import forward
from vitedge.network.network import Network, map_linears
from vitedge.network.operators import Linear
from vitedge.network.tasks import Task
from vitedge.pipeline.budget import DropBudget, fewest_lifted
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.quantize.sensitivity import rank_layers
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

LAYERS = [f"layer {number}" for number in range(20)]


@pytest.mark.parametrize("needed", [1, 2, 7, 19, 20])
def test_the_fewest_layers_that_keep_the_budget_are_lifted(needed: int) -> None:
    asked: list[int] = []

    def drop(lifted: Sequence[str]) -> float:
        asked.append(len(lifted))
        return 0.5 if len(lifted) >= needed else 3.0

    assert fewest_lifted(lambda: LAYERS, drop, 1.0, "model") == (
        tuple(LAYERS[:needed]),
        0.5,
    )
    assert len(asked) <= 2 + 5


def test_within_the_budget_nothing_is_ranked_or_lifted() -> None:
    def rank() -> Sequence[str]:
        raise AssertionError("nothing has to be ranked")

    assert fewest_lifted(rank, lambda _: 0.2, 0.5, "model") == ((), 0.2)


def test_a_budget_that_cannot_be_kept_says_what_is_lost() -> None:
    with pytest.raises(BudgetError, match=r"loses 3\.00 points, and still 3\.00 with all 20"):
        fewest_lifted(lambda: LAYERS, lambda _: 3.0, 1.0, "model")
    assert BudgetError.exit_code == 3


def with_a_spoilt_layer(network: Network, spoilt: str) -> Network:
    """Some rows of a weight so large that 4 bits leave nothing of their neighbours."""

    def changed(name: str, layer: Linear) -> Linear:
        if name != spoilt:
            return layer
        weight = layer.weight.copy()
        weight[np.random.default_rng(0).integers(len(weight), size=3)] *= 40
        return replace(layer, weight=weight)

    return map_linears(network, changed)


def test_the_layer_that_costs_most_is_ranked_first() -> None:
    network, _ = apply_rewrites(random_network(depth=3), without=["rotate-residual"])
    spoilt = with_a_spoilt_layer(network, "blocks.1.fc2")
    made = quantize(spoilt, Precision.INT4, calibrate(spoilt, random_images(network, 16, seed=1)))
    ranked = rank_layers(made, random_images(network, 8, seed=2), activations=Activations.PER_TOKEN)
    assert ranked[0].layer == "blocks.1.fc2"
    assert [each.sqnr_db for each in ranked] == sorted(each.sqnr_db for each in ranked)
    assert len(ranked) == len(made.recipe.weights)


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(depth=2)


def labelled(network: Network, n: int) -> ImageSet:
    """Images that the float32 model names all right."""
    pixels = random_images(network, n, seed=5)
    return ImageSet("labelled", ArraySamples(pixels, forward(network, pixels).argmax(axis=1)))


@pytest.mark.thorough
def test_int4_is_lifted_until_it_keeps_its_budget(network: Network, tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    write_keras(network, model)
    images = labelled(network, 512)

    def written(max_drop: float) -> Mapping[str, str]:
        options = ConvertOptions(
            (Format.ONNX,),
            (Precision.INT4,),
            tmp_path,
            force=True,
            budget=DropBudget(max_drop, images),
        )
        (artifact,) = convert(model, options, calibration=images)
        return read_metadata(artifact.path).quantization

    plain = written(100.0)
    assert plain["float layers"] == "head, patch"
    assert plain["budget"].endswith("points lost of 100, on 512 images; lifted: nothing")
    # 4 bits flip some of the images; none may.
    lifted = written(0.0)
    assert "blocks." in lifted["float layers"]
    assert re.match(
        r"-?0\.\d\d points lost of 0, on 512 images; lifted: blocks\.", lifted["budget"]
    )


def test_what_cannot_keep_its_budget_is_not_written(network: Network, tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    write_keras(network, model)
    # Float32 names all of these right, so nothing can be a point better.
    budget = DropBudget(-1.0, labelled(network, 8))
    options = ConvertOptions((Format.TFLITE,), (Precision.W8A16,), tmp_path, budget=budget)
    with pytest.raises(BudgetError, match=r"model\.w8a16\.tflite loses \d"):
        convert(model, options)
    assert not list(tmp_path.glob("*.tflite"))


def test_the_budget_of_a_map_is_of_its_ground_truth(tmp_path: Path) -> None:
    network = network_of_task(Task.MAP)
    write_keras(network, tmp_path / "model.keras")
    samples = []
    for number, image in enumerate(random_images(network, 6)):
        (made,) = forward(network, image[None])
        side = len(image) // len(made)
        # Depths near each other, so that nothing but a broken file is a quarter wrong.
        np.save(tmp_path / f"{number}.npy", made.repeat(side, 0).repeat(side, 1) * 1e-3 + 1)
        samples.append(Sample(f"{number}", image, None, str(tmp_path / f"{number}.npy")))
    images = ImageSet("depths", samples)

    def asked(max_drop: float) -> ConvertOptions:
        budget = DropBudget(max_drop, images)
        return ConvertOptions((Format.ONNX,), (Precision.INT8,), tmp_path, budget=budget)

    (written,) = convert(tmp_path / "model.keras", asked(0.5))
    # A map of random weights is no depth as it is; fitted, nothing is lost.
    assert written.lost.startswith("0.00 points lost of 0.5, on 6 images")
    with pytest.raises(BudgetError, match=r"loses 0\.00 points, and still 0\.00"):
        convert(tmp_path / "model.keras", replace(asked(-1.0), force=True))
