"""Registers that outshine all other tokens have scales of their own in graphs of integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import read_metadata
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.network.evaluate import forward
from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.prefix_apart import PrefixApart, branches, is_joined
from vitedge.quantize.recipe import quantize
from vitedge.quantize.simulate import simulate
from vitedge.rewrite import PREFIX_APART, apply_rewrites
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def plain() -> Network:
    return random_network(depth=3, dim=48, heads=3, head_dim=16, mlp_dim=96)


@pytest.fixture
def massive(plain: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from register_vit import with_massive_registers

    return with_massive_registers(plain, random_images(plain, 4, seed=5))


def sqnr_db(found: Array, expected: Array) -> float:
    error = np.square((found - expected).astype(np.float64)).sum() + 1e-30  # both may be equal
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / error))


def test_registers_are_told_apart_and_no_output_changes(massive: Network) -> None:
    rewritten, _ = apply_rewrites(massive)
    images = random_images(massive, 4)
    apart = PrefixApart().apply(rewritten, images)
    assert sqnr_db(forward(apart, images), forward(rewritten, images)) > 90
    joined = [value.name for value in apart.values if is_joined(value)]
    assert {"blocks.0.fc2", "blocks.1.fc2"} <= set(joined)
    assert "blocks.2.out" not in joined  # one query is left there
    names = {name for name, _ in apart.named_linears()}
    assert {"blocks.0.outshining.fc1", "blocks.0.others.fc1"} <= names
    assert "blocks.0.fc1" not in names


def test_a_model_without_such_tokens_stays_as_it_is(plain: Network) -> None:
    rewritten, _ = apply_rewrites(plain)
    assert branches(rewritten)
    assert PrefixApart().apply(rewritten, random_images(plain, 4)) is rewritten


def test_scales_of_their_own_save_the_other_tokens(massive: Network) -> None:
    rewritten, _ = apply_rewrites(massive)
    seen, images = random_images(massive, 16, seed=1), random_images(massive, 16, seed=2)

    def decibels(network: Network) -> float:
        statistics = calibrate(network, seen)
        made = quantize(network, Precision.INT8_STATIC, statistics, images=lambda: seen)
        found = simulate(made.network, made.recipe, images, activations=Activations.STATIC)
        return sqnr_db(found, forward(massive, images))

    assert decibels(PrefixApart().apply(rewritten, seen)) > decibels(rewritten) + 2


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX])
def test_artefacts_say_that_tokens_were_told_apart(
    target: Format, massive: Network, tmp_path: Path
) -> None:
    write_keras(massive, tmp_path / "model.keras")
    calibration = ImageSet("random", ArraySamples(random_images(massive, 16, seed=1), None))

    def written(name: str, without: tuple[str, ...]) -> Path:
        options = ConvertOptions(
            (target,), (Precision.INT8_STATIC,), tmp_path, without=without, name=name
        )
        (made,) = convert(tmp_path / "model.keras", options, calibration=calibration)
        return made.path

    images, found = random_images(massive, 16, seed=2), {}
    for name, without in (("apart", ()), ("together", (PREFIX_APART,))):
        path = written(name, without)
        metadata = read_metadata(path)
        assert metadata is not None
        assert (PREFIX_APART in metadata.rewrites) == (name == "apart")
        assert ("tokens" in metadata.quantization) == (name == "apart")
        session = runtime_for(target.default_target).open(path, "cpu")
        found[name] = sqnr_db(run_batches(session, images), forward(massive, images))
        session.close()
    assert found["apart"] > found["together"] + 1
