"""Measures of outputs that are no classes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitedge.bench.accuracy import Truth, accuracy, versus_float
from vitedge.bench.by_task import mean_average_precision, nearest, quality_of
from vitedge.bench.workers.logits import Probabilities, YesOrNo
from vitedge.errors import ModelError
from vitedge.network.tasks import Task
from vitedge.report.quality import TaskQuality


def truth_of(labels: list[int], usable: list[bool] | None = None) -> Truth:
    n = len(labels)
    flags = np.ones(n, np.bool_) if usable is None else np.asarray(usable)
    return Truth([f"{i}.png" for i in range(n)], np.asarray(labels, np.int64), (), flags)


def measured(
    task: Task, made: np.ndarray, reference: np.ndarray, labels: list[int] | None = None
) -> tuple[TaskQuality, dict[str, float]]:
    truth = truth_of(labels or [-1] * len(made))
    found = quality_of(task, made.astype(np.float32), reference.astype(np.float32), truth)
    assert found is not None
    return found, {each.name: each.value for each in found.measures}


@pytest.mark.parametrize("task", [Task.LABELS, Task.NUMBERS, Task.EMBEDDING, Task.MAP], ids=str)
def test_equal_outputs_lose_nothing(task: Task) -> None:
    made = np.random.default_rng(0).normal(size=(12, 6))
    found, values = measured(task, made, made)
    assert found.drop.points == pytest.approx(0, abs=1e-6)
    assert found.sqnr_db is None
    best = {"mean absolute error": 0, "relative error": 0, "R²": 1, "cosine": 1}
    for name, value in values.items():
        assert value == pytest.approx(best.get(name, 100), abs=1e-6), name


def test_average_precision_is_that_of_the_textbook() -> None:
    # Right ones at ranks 1, 3 and 5: (1/1 + 2/3 + 3/5) / 3.
    scores = np.asarray([[5.0], [4.0], [3.0], [2.0], [1.0]])
    right = np.asarray([[True], [False], [True], [False], [True]])
    assert mean_average_precision(scores, right) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    both = np.concatenate([right, np.zeros_like(right)], axis=1)  # a label of no image is left out
    again = mean_average_precision(np.repeat(scores, 2, axis=1), both)
    assert again == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_labels_agree_one_by_one() -> None:
    reference = np.asarray([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    made = reference.copy()
    made[0, 1] = 0.5  # one of six answers changes
    found, values = measured(Task.LABELS, made, reference)
    assert values["label agreement"] == pytest.approx(100 * 5 / 6)
    assert found.drop.points == pytest.approx(100 / 6)
    assert found.drop_of == "label agreement"


def test_labels_of_images_are_what_precision_is_held_against() -> None:
    reference = np.eye(4) * 2 - 1
    made = reference[:, [1, 0, 2, 3]]  # two labels took each other's place
    found, values = measured(Task.LABELS, made, reference, [0, 1, 2, 3])
    assert values["mAP of float32"] == 100
    assert found.drop.points == pytest.approx(100 - values["mAP"])
    assert values["mAP"] < 100
    assert found.drop_of == "mAP"


def test_numbers_are_measured_as_regressions_are() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 2)) * [1, 100]
    made = reference + np.asarray([0.1, 10])
    found, values = measured(Task.NUMBERS, made, reference)
    assert values["mean absolute error"] == pytest.approx((0.1 + 10) / 2, rel=1e-4)
    unexplained = (np.asarray([0.1, 10]) ** 2 / reference.var(axis=0)).mean()
    assert values["R²"] == pytest.approx(1 - unexplained, rel=1e-4)
    assert found.drop.points == pytest.approx(100 * unexplained, rel=1e-3)
    assert found.drop.low < found.drop.points < found.drop.high or found.drop.low == pytest.approx(
        found.drop.high, abs=1e-3
    )


def test_the_nearest_of_an_image_are_others() -> None:
    angles = np.radians([0, 10, 25, 90])
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert nearest(units, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest(units, 9).shape == (4, 3)


def test_recall_asks_for_the_neighbour_that_float32_names() -> None:
    angles = np.radians([0, 10, 25, 90])
    reference = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3
    turned = np.radians([0, 10, 12, 90])  # the second one's nearest is the third now
    made = np.stack([np.cos(turned), np.sin(turned)], axis=1) * 5
    found, values = measured(Task.EMBEDDING, made, reference)
    assert values["recall@1"] == 75
    assert values["recall@5"] == 100
    assert values["cosine"] == pytest.approx((3 + math.cos(math.radians(13))) / 4, rel=1e-6)
    assert (found.drop.points, found.drop_of) == (25, "recall@1")


def test_neighbours_vote_where_images_have_labels() -> None:
    rng = np.random.default_rng(0)
    labels = [0, 1] * 10
    reference = np.asarray([[1.0, 0.0], [0.0, 1.0]])[labels] + rng.normal(size=(20, 2)) * 0.01
    found, values = measured(Task.EMBEDDING, reference, reference, labels)
    assert values["5-NN accuracy"] == values["5-NN accuracy of float32"] == 100
    noise = rng.normal(size=(20, 2))
    found, values = measured(Task.EMBEDDING, noise, reference, labels)
    assert found.drop_of == "5-NN accuracy"
    assert found.drop.points == pytest.approx(100 - values["5-NN accuracy"])


def test_the_error_of_a_map_is_a_share_of_it() -> None:
    reference = np.random.default_rng(0).normal(size=(7, 30)) + 2
    found, values = measured(Task.MAP, reference * 1.1, reference)
    assert values == {"relative error": pytest.approx(10, rel=1e-4)}
    assert found.sqnr_db == pytest.approx(20, abs=1e-3)


def test_images_that_cannot_be_read_do_not_count() -> None:
    reference = np.ones((3, 4), np.float32)
    made = reference.copy()
    made[1] = 99
    truth = truth_of([-1] * 3, [True, False, True])
    found = quality_of(Task.MAP, made, reference, truth)
    assert found is not None
    assert (found.n, found.drop.points) == (2, 0)
    nothing = truth_of([-1] * 3, [False] * 3)
    assert quality_of(Task.MAP, made, reference, nothing) is None


def test_another_number_of_outputs_is_another_model() -> None:
    made, reference = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    with pytest.raises(ModelError, match="gives 3 numbers for each image, the reference 4"):
        quality_of(Task.MAP, made, reference, truth_of([-1, -1]))


@pytest.mark.parametrize("is_probable", [False, True], ids=["logits", "probabilities"])
def test_yes_and_no_are_two_classes(is_probable: bool) -> None:
    reference = np.asarray([[2.0], [-1.0], [0.5], [-3.0]], np.float32)
    made = np.asarray([[1.0], [1.0], [0.7], [-2.0]], np.float32)
    truth, middle = truth_of([1, 0, 1, 0]), 0.5 if is_probable else 0.0
    views = [
        YesOrNo(Probabilities(each, Task.BINARY) if is_probable else each, middle)
        for each in (made, reference)
    ]
    found, compared = accuracy(views[0], truth), versus_float(*views, truth)
    assert found is not None
    assert compared is not None
    assert found.top1 == 75
    assert (compared.agreement, compared.flipped, compared.newly_wrong) == (75, 1, 1)
