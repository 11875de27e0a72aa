"""`convert --tokens auto`: the search, what it proves, and that its schedule makes it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import vitedge
from tests.support.models import random_images, random_network
from vitedge.api.tokens import read_tokens
from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.artifacts.token_merging import Lost, TokenMerging
from vitedge.cli import main
from vitedge.demo.digits import digits_recipe, digits_vit
from vitedge.errors import UsageError
from vitedge.images.image_sets import digits
from vitedge.network.network import Network
from vitedge.pipeline import searching_maker
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import TokenSearch, Trial, search
from vitedge.rewrite.merge_tokens import Merging
from vitedge.rewrite.schedule_moves import far_apart, near
from vitedge.rewrite.token_schedule import Scheduled, with_schedule
from vitedge.train import train


def network() -> Network:
    return random_network(5, depth=4, image_size=(48, 48))


class Measured:
    """Numbers that follow from a schedule, and what was asked for."""

    def __init__(self, *, worst: float = 0.0, costly_block: int = -1) -> None:
        self.asked: list[Scheduled] = []
        self._worst, self._costly = worst, costly_block

    def __call__(self, found: Scheduled) -> Trial:
        self.asked.append(found)
        lost = self._worst + 10 * (1 - found.share) ** 2
        lost += sum(each.block == self._costly for each in found.schedule)
        return Trial(found, found.share + 0.02 * len(found.schedule), lost)


def searched(measured: Measured, allowed: float, most: int = 10**6) -> tuple[Trial, ...]:
    model = network()
    return search(
        far_apart(model),
        lambda found: near(model, found),
        measured,
        allowed=allowed,
        is_late=lambda: len(measured.asked) >= most,
    )


def test_the_fastest_schedule_within_the_budget_comes_first() -> None:
    measured = Measured()
    found = searched(measured, 0.5)
    assert all(each.lost <= 0.5 for each in found)
    assert [each.ratio for each in found] == sorted(each.ratio for each in found)
    coarse = [each for each in map(Measured(), far_apart(network())) if each.lost <= 0.5]
    assert found[0].ratio < min(each.ratio for each in coarse)
    assert len({each.schedule for each in measured.asked}) == len(measured.asked)


def test_the_same_numbers_lead_to_the_same_schedules() -> None:
    first, again = Measured(costly_block=2), Measured(costly_block=2)
    found = [searched(each, 0.7)[0].scheduled.words for each in (first, again)]
    assert found[0] == found[1]
    assert [each.words for each in first.asked] == [each.words for each in again.asked]


def test_what_loses_too_much_is_not_refined() -> None:
    measured = Measured(worst=3.0)
    assert searched(measured, 0.5) == ()
    assert len(measured.asked) == 2  # one alone may be bad luck


def test_nothing_is_begun_when_it_is_late() -> None:
    measured = Measured()
    searched(measured, 0.5, most=2)
    assert len(measured.asked) == 2


def test_moves_are_schedules_of_less_work_or_of_fewer_merges() -> None:
    model = network()
    start = with_schedule(model, (Merging(1, 8), Merging(2, 4)))
    found = list(near(model, start))
    assert {1, 2} <= {len(each.schedule) for each in found}
    for each in found:
        spare = 0.03 if len(each.schedule) < 2 else 0.0
        assert each.share < start.share + spare + 0.011
        blocks = [step.block for step in each.schedule]
        assert blocks == sorted(set(blocks))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "or auto; not 'fast'"),
        ("4:53,", "'' in --tokens"),
        ("0:5", "count from 1"),
        ("4:0", "at least one"),
        ("8:4,4:4", "in their order"),
        ("4:5:6", "'4:5:6' in --tokens"),
        ("1.0", "0 to 1, not 1"),
        ("nan", "0 to 1, not nan"),
    ],
)
def test_other_words_for_tokens_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_tokens(text, constant=False, minutes=None)


def test_tokens_are_a_share_a_schedule_or_searched() -> None:
    assert read_tokens("0.7", constant=False, minutes=None) == TokenOptions(0.7)
    schedule = Merging(3, 53), Merging(7, 45)
    found = read_tokens("4:53, 8:45", constant=True, minutes=None)
    assert found == TokenOptions(None, constant=True, schedule=schedule)
    assert read_tokens("auto", constant=False, minutes=3) == TokenSearch(3)
    with pytest.raises(UsageError, match="--minutes says how long"):
        read_tokens("0.7", constant=False, minutes=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(network(), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without labels, so that points are of agreement."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(random_images(network(), 40)):
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def convert(model: Path, folder: Path, *more: str) -> Result:
    words = ["convert", str(model), "--format", "onnx", "-o", str(folder), *more]
    return CliRunner().invoke(main, words)


def written(folder: Path, precision: str = "fp32") -> Metadata:
    metadata = read_metadata(folder / f"model.{precision}.onnx")
    assert metadata is not None
    return metadata


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_schedule_stands_in_the_artefact_and_makes_it_again(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    # The work in place of the time, so that the outcome is the same wherever this runs.
    monkeypatch.setattr(searching_maker, "in_turns", lambda *_: [[1.0], [0.8]])
    auto = ["--tokens", "auto", "--data", str(photos), "--max-drop", "40"]
    result = convert(model, tmp_path, f"--{precision}", *auto)
    assert result.exit_code == 0, result.output
    merging = written(tmp_path, precision).merging
    assert merging is not None
    assert merging.lost is not None
    assert merging.lost.n == 20  # the half that no schedule was chosen by
    assert "on the half of the images that no schedule was chosen by; by" in result.output
    assert "makes it again" in result.output
    assert f"by merging alone {merging.lost}" in " ".join(result.output.split())
    schedule = merging.search.split("--tokens ")[1].split()[0]
    again = tmp_path / "again"
    result = convert(model, again, f"--{precision}", "--tokens", schedule, "--data", str(photos))
    assert result.exit_code == 0, result.output
    made = written(again, precision).merging
    assert made == replace(merging, lost=None, search="")
    outputs = []
    for folder in (tmp_path, again):
        with vitedge.load(folder / f"model.{precision}.onnx") as loaded:
            outputs.append(loaded.logits(list(random_images(network(), 2))))
    np.testing.assert_array_equal(*outputs)


def test_where_nothing_is_faster_the_artefact_is_made_without_merging(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching_maker, "in_turns", lambda *_: [[1.0], [1.0]])
    auto = ["--tokens", "auto", "--data", str(photos), "--max-drop", "40"]
    result = convert(model, tmp_path, "--fp32", *auto)
    assert result.exit_code == 0, result.output
    assert "no tokens are merged: of" in result.output
    assert written(tmp_path).merging is None


def test_what_the_search_needs_is_asked_for(model: Path, photos: Path, tmp_path: Path) -> None:
    auto = ["--fp32", "--tokens", "auto"]
    for more, words in (
        ((), "give --data"),
        (("--data", str(photos)), "and --max-drop"),
        (("--max-drop", "1"), "give --data"),
    ):
        result = convert(model, tmp_path, *auto, *more)
        assert result.exit_code != 0
        assert words in " ".join(result.output.split())
    few = tmp_path / "few"
    few.mkdir()
    Image.new("RGB", (48, 48)).save(few / "one.png")
    result = convert(model, tmp_path, *auto, "--data", str(few), "--max-drop", "1")
    assert result.exit_code != 0
    assert "holds 1 images" in result.output
    assert not list(tmp_path.glob("*.onnx"))
    asked = ["convert", str(model), "--for", "tflite-gpu", "--tokens", "auto", "-o", str(tmp_path)]
    asked += ["--data", str(photos), "--max-drop", "1"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code != 0
    assert "give --tokens SHARE" in result.output


@pytest.mark.slow
def test_digits_are_converted_within_their_budget(tmp_path: Path) -> None:
    training, held_out = digits()
    trained = train(digits_vit(), training, replace(digits_recipe(), epochs=8))
    write_keras(trained.network, tmp_path / "model.keras")
    for name, images, count in (("seen", training, 64), ("unseen", held_out, 200)):
        for number, sample in enumerate(images.samples[:count]):
            folder = tmp_path / name / str(sample.label)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = trained.network.preprocessing(sample.image)[..., 0]
            Image.fromarray(pixels).save(folder / f"{number}.png")
    result = convert(
        tmp_path / "model.keras",
        tmp_path,
        *("--int8", "--calibration", str(tmp_path / "seen"), "--data", str(tmp_path / "unseen")),
        *("--tokens", "auto", "--max-drop", "2", "--minutes", "0.3"),
    )
    assert result.exit_code == 0, result.output
    merging = written(tmp_path, "int8").merging
    if merging is None:
        assert "no tokens are merged" in result.output
    else:
        assert merging.lost is not None
        assert merging.lost.n == 100


def test_metadata_of_what_was_lost_are_read_and_checked() -> None:
    lost = Lost(-0.4, -1.6, 0.8, 250)
    merging = TokenMerging((3,), (53,), 0.8, 0.94, 32, lost=lost, search="found")
    assert merging.words.endswith(
        "; found; by itself loses -0.40 points (95 %: -1.6 to 0.8, 250 images)"
    )
    with pytest.raises(ValueError, match="points"):
        Lost.from_dict({"low": 0, "high": 1, "n": 4})
