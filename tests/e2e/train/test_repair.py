"""Repair: a lighter model learns to be the model that it was made of, and converts as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vitedge
from tests.support.merged_networks import TWICE
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import read_metadata
from vitedge.cli import main
from vitedge.importers import ImportOptions, read_model
from vitedge.in_keras.model import to_keras
from vitedge.network.blocks import blocks, learnt_constants
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Constant, Match
from vitedge.pipeline.keras_model import write_keras
from vitedge.rewrite.alike_on_average import with_groups
from vitedge.rewrite.merge_tokens import merge_tokens
from vitedge.train.fine_tune import adapt
from vitedge.train.imitation import Imitation

WAYS = {
    "constant": {"tokens": 0.8, "merge": "constant"},
    "tokens and width": {"tokens": 0.8, "width": 0.8},
    "image size": {"image_size": 32, "repair": True},
}


def network() -> Network:
    return random_network(5, depth=4, image_size=(48, 48))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(network(), path)
    return path


def distance(form: Network, exact: Network, pixels: np.ndarray) -> float:
    imitation = Imitation(form, to_keras(exact))
    shown = to_keras(form)
    places = {value.name: value for value in shown.form.values}
    made = shown.compute([places[each.name] for each in imitation.shown], pixels)
    wanted = imitation.exact.compute(imitation.ends, pixels)
    return float(imitation.distance(made, wanted))


class TestImitation:
    def test_a_model_is_no_way_from_itself(self) -> None:
        assert distance(network(), network(), random_images(network(), 2)) == 0

    @pytest.mark.parametrize("constant", [False, True])
    def test_a_merged_token_imitates_the_mean_of_those_that_it_stands_for(
        self, constant: bool
    ) -> None:
        """Tokens that are equal are merged without a loss, so nothing is left to learn."""
        whole, flat = network(), np.full((2, 48, 48, 3), 117, np.uint8)
        positions = {v.name: v for v in whole.values}["positions"]
        whole = with_operators(whole, {positions: Constant(0 * positions.operator.values)})
        schedule = TWICE if not constant else with_groups(whole, TWICE, lambda: iter(flat))
        merged = merge_tokens(whole, schedule)
        assert len(blocks(merged)) == len(blocks(whole))
        assert distance(merged, whole, flat) < 1e-8
        assert distance(merged, whole, random_images(whole, 2)) > 1e-8

    def test_smaller_images_have_a_block_for_each_of_the_larger(self) -> None:
        small = adapt(network(), (), image_size=(32, 32))
        imitation = Imitation(small, to_keras(network()))
        assert len(imitation.ends) == len(blocks(small))

    def test_what_says_how_tokens_are_merged_does_not_learn(self) -> None:
        whole = network()
        groups = with_groups(whole, TWICE, lambda: iter(random_images(whole, 2)))
        for schedule in (TWICE, groups):
            merged = merge_tokens(whole, schedule)
            names = {value.name for value in learnt_constants(merged)}
            assert not {name for name in names if name.endswith(("/ones", "/counts", "/shares"))}
            assert {value.name for value in learnt_constants(whole)} <= names


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_repaired_model_is_nearer_to_what_it_was_and_converts_to_itself(
    model: Path, tmp_path: Path, name: str
) -> None:
    pixels, output = random_images(network(), 16), tmp_path / "repaired.keras"
    trained = vitedge.train(
        pixels,
        output,
        init=model,
        epochs=6,
        batch_size=8,
        learning_rate=3e-4,
        crop=1.0,
        flip=False,
        average=0.0,
        **WAYS[name],
    )
    assert trained.history[-1].loss < trained.history[0].loss
    repaired = read_model(output, ImportOptions()).network
    assert repaired.macs < 0.9 * network().macs
    assert any(isinstance(each.operator, Match) for each in repaired.values) == (
        name == "tokens and width"
    )
    (path,) = vitedge.convert(output, precisions="fp32", formats="onnx", output=tmp_path).paths
    metadata, few = read_metadata(path), random_images(repaired, 8, seed=1)
    assert metadata is not None
    assert metadata.macs < 0.9 * network().macs
    assert metadata.merging is None  # the source merges, and this is all of it
    expected = evaluate(repaired, few)["logits"]
    with vitedge.load(path) as loaded:
        off = np.square(loaded.logits(list(few)) - expected).sum(axis=1)
    # A choice may turn on the last digit, for an image or two.
    assert np.median(off) < 1e-6 * np.square(expected).sum(axis=1).mean()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokens", "0.8"], "name it with --init"),
        (["--repair", "--init", "MODEL"], "give --tokens, --width or --image-size, too"),
        (["--tokens", "auto", "--init", "MODEL"], "--tokens SHARE, not auto"),
        (["--merge", "constant", "--init", "MODEL"], "give --tokens as well"),
        (["--width", "1.5", "--init", "MODEL"], "0 to 1, not 1.5"),
        (["--width", "0.8", "--quantize-aware", "int8", "--init", "MODEL"], "comes second"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_repaired_is_said(
    model: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    given = [str(model) if each == "MODEL" else each for each in options]
    output = str(tmp_path / "out.keras")
    result = CliRunner().invoke(main, ["train", "--data", "digits", "-o", output, *given])
    assert result.exit_code != 0
    assert words in result.output
    assert not Path(output).exists()
