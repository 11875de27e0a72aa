"""Which artefact is measured next, and what an interrupted pick takes up."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.importers import ImportOptions
from vitedge.pick.journal import Journal, about
from vitedge.pick.promises import Course, Kind, Line, Measured, most_promising
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

TOKENS = Kind(tuple(percent / 100 for percent in range(95, 35, -5)), 2.0)
PIXELS = Kind((0.86, 0.73, 0.62), 25.0)


def course(
    precision: Precision, latency_ms: float, lost: float, kinds: tuple[Kind, ...] = (TOKENS,)
) -> Course:
    line = Line(Target("tflite", "cpu"), Format.TFLITE, precision, constant=False)
    return Course(line, latency_ms, lost, kinds)


def followed(
    courses: list[Course],
    max_drop: float,
    ratio: Callable[[float], float] = lambda share: 0.1 + 0.97 * share,
    loss: float = 2.0,
) -> list[tuple[Precision, float]]:
    """What is measured in turn, where artefacts behave so."""
    asked = []
    while (promise := most_promising(courses, max_drop)) is not None:
        (share,), of = promise.works, promise.course
        asked.append((of.line.precision, share))
        of.measured.append(Measured((share,), ratio(share), of.lost + loss * (1 - share) ** 2))
        assert len(asked) < 30
    return asked


def test_the_smallest_share_that_the_budget_should_allow_is_measured_first() -> None:
    asked = followed([course(Precision.INT8, 10.0, 0.1)], 0.5)
    # 0.1 + 2 x 0.45 squared is 0.505: more than there may be.
    assert asked == [(Precision.INT8, 0.6)]


def test_what_loses_more_than_was_promised_is_left_for_more_tokens() -> None:
    asked = [share for _, share in followed([course(Precision.INT8, 10.0, 0.1)], 0.5, loss=8.0)]
    assert asked[0] == 0.6
    kept = [share for share in asked if 0.1 + 8 * (1 - share) ** 2 <= 0.5]
    assert min(kept) == 0.8  # the best of the grid, found without all of it
    assert len(asked) <= 4


def test_only_precisions_that_can_become_the_fastest_are_followed() -> None:
    slow, fast = course(Precision.FP32, 40.0, 0.0), course(Precision.INT8, 10.0, 0.2)
    assert {precision for precision, _ in followed([slow, fast], 1.0)} == {Precision.INT8}
    wrong = course(Precision.INT4, 8.0, 3.0)
    assert {each for each, _ in followed([wrong, slow], 1.0)} == {Precision.FP32}


def test_a_device_on_which_merging_is_slower_is_given_up() -> None:
    asked = followed([course(Precision.INT8, 1.0, 0.0)], 1.0, ratio=lambda share: 0.9 + share)
    assert len(asked) <= 2


def test_a_share_that_cannot_be_made_is_not_asked_for_again() -> None:
    of = course(Precision.INT8, 10.0, 0.0)
    first = most_promising([of], 5.0)
    assert first is not None
    of.refused.append(first.works)
    second = most_promising([of], 5.0)
    assert second is not None
    assert second.works > first.works


def test_savings_are_combined_where_together_they_promise_more() -> None:
    of = course(Precision.INT8, 10.0, 0.0, (TOKENS, PIXELS))
    # Pixels lose much by what is usual, so tokens alone come first.
    first = most_promising([of], 0.5)
    assert first is not None
    assert first.works == (0.5, 1.0)
    of.measured.append(Measured(first.works, 0.6, 0.5))
    # Where fewer pixels turn out to cost nothing, they are taken together with fewer tokens.
    of.measured.append(Measured((1.0, 0.73), 0.8, 0.0))
    second = most_promising([of], 0.5)
    assert second is not None
    assert second.works[0] < 1
    assert second.works[1] < 1
    assert second.latency_ms < 6.0


def test_what_leaves_less_than_something_that_lost_too_much_is_not_tried() -> None:
    of = course(Precision.INT8, 10.0, 0.0, (TOKENS, PIXELS))
    of.measured.append(Measured((0.7, 1.0), 0.75, 3.0))
    of.measured.append(Measured((0.9, 0.86), 0.8, 0.1))
    left = of.open_works(1.0)
    assert (0.7, 0.86) not in left
    assert (0.6, 0.73) not in left
    assert (0.95, 1.0) not in left  # slower than what is within the budget
    assert (0.8, 0.62) in left


def test_without_anything_within_the_budget_nothing_is_promised() -> None:
    assert most_promising([course(Precision.INT8, 10.0, 2.0)], 1.0) is None
    assert course(Precision.INT8, 10.0, 2.0).best_ms(1.0) == math.inf
    assert most_promising([], 1.0) is None


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.int8.xml"
    path.write_text("graph")
    path.with_suffix(".bin").write_bytes(b"weights")
    return path


def test_what_was_made_is_known_again_while_it_lies_there_unchanged(
    artifact: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    Journal(folder, "this model").add(artifact)
    assert Journal(folder, "this model").holds(artifact)
    assert not Journal(folder, "another model").holds(artifact)
    assert not Journal(None, "this model").holds(artifact)
    assert not Journal(folder, "this model").holds(artifact.with_name("other.xml"))
    artifact.with_suffix(".bin").write_bytes(b"others")
    assert not Journal(folder, "this model").holds(artifact)
    artifact.with_suffix(".bin").unlink()
    assert not Journal(folder, "this model").holds(artifact)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"about": "x", "made": 3}', "\x00"])
def test_a_garbled_journal_knows_nothing(artifact: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "made.json").write_text(text)
    journal = Journal(folder, "x")
    assert not journal.holds(artifact)
    journal.add(artifact)
    assert json.loads((folder / "made.json").read_text())["about"] == "x"


def test_what_artefacts_are_made_of_is_told_apart() -> None:
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    images = ImageSet("images", ArraySamples(pixels, None))
    others = ImageSet("images", ArraySamples(pixels + 1, None))
    plain = ImportOptions()
    keys = {
        about("a", plain, images),
        about("b", plain, images),
        about("a", plain, others),
        about("a", plain, None),
        about("a", ImportOptions(heads=3), images),
    }
    assert len(keys) == 5
    assert about("a", plain, images) == about("a", ImportOptions(warn=print), images)
