"""Maps against ground truth: mean IoU and delta-1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vitedge.bench.accuracy import Truth
from vitedge.bench.by_task import quality_of
from vitedge.bench.true_maps import delta_1, fitted, mean_iou
from vitedge.errors import DataError
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.images.true_maps import Grid
from vitedge.network.tasks import Task
from vitedge.report.quality import TaskQuality

PHOTO = np.zeros((4, 4, 3), np.uint8)


def test_mean_iou_is_that_of_the_textbook() -> None:
    # Class 0: 3 of 5 places in common, class 1: 1 of 3; class 2 is nowhere and does not count.
    confusion = np.asarray([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert mean_iou(confusion) == pytest.approx((3 / 5 + 1 / 3) / 2)


def test_delta_1_counts_what_is_within_a_quarter() -> None:
    found = np.asarray([1.2, 1.3, 0.81, 0.79, -1.0])
    assert delta_1(found, np.ones(5)) == pytest.approx(2 / 5)


def test_scale_and_offset_are_fitted_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(1, 5, 50)
    np.testing.assert_allclose(fitted((expected - 3) / 7, expected), expected)
    np.testing.assert_allclose(fitted(np.zeros(50), expected), expected.mean())


def quality(
    made: npt.NDArray[np.float32],
    reference: npt.NDArray[np.float32],
    truths: list[npt.NDArray[np.generic] | None],
    folder: Path,
) -> TaskQuality:
    """Of maps ``(N, 4, 4)`` or ``(N, 4, 4, channels)``."""
    samples = []
    for number, truth in enumerate(truths):
        path = folder / f"{number}.npy"
        if truth is not None:
            np.save(path, truth)
        samples.append(Sample(f"{number}", PHOTO, None, None if truth is None else str(path)))
    grid = Grid(Preprocessing((4, 4)), made.shape[1:])
    flat = (each.reshape(len(each), -1) for each in (made, reference))
    found = quality_of(Task.MAP, *flat, Truth.of(samples), grid=grid)
    assert found is not None
    return found


def values(found: TaskQuality) -> dict[str, float]:
    return {each.name: each.value for each in found.measures}


def test_classes_are_the_largest_channel_and_unlabelled_pixels_do_not_count(
    tmp_path: Path,
) -> None:
    classes = np.zeros((4, 4), np.int64)
    classes[:, 2:] = 1
    reference = np.stack([np.eye(2, dtype=np.float32)[classes]] * 3)
    made = reference.copy()
    made[0, 0, 0] = [0, 1]  # one place of 16 is wrong
    truth = classes.copy()
    found = quality(made, reference, [truth, truth, None], tmp_path)
    # Over both images: 15 of 16 and 16 of 17.
    assert values(found)["mean IoU"] == pytest.approx(100 * (15 / 16 + 16 / 17) / 2)
    assert values(found)["mean IoU of float32"] == 100
    assert found.drop_of == "mean IoU"
    assert found.drop.points == pytest.approx(100 - values(found)["mean IoU"])
    assert found.drop.n == 2
    assert values(found)["relative error"] > 0  # of all three
    truth[0, 0] = 255
    assert values(quality(made, reference, [truth, truth, None], tmp_path))["mean IoU"] == 100


def test_depths_are_compared_as_they_are_and_fitted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 9, (4, 4)).astype(np.float32)
    reference = np.stack([truth, truth])
    halved = quality(reference / 2, reference, [truth, truth], tmp_path)
    assert values(halved)["delta-1"] == 0
    assert values(halved)["delta-1 fitted"] == pytest.approx(100)
    assert (halved.drop_of, halved.drop.points) == ("delta-1", pytest.approx(100))
    # A model of relative depth is never right as it is; there the fitted measure decides.
    relative = (reference - 20) / 7
    broken = relative.copy()
    broken[:, :2] = broken[:, :2].mean()
    lost = quality(broken, relative, [truth, truth], tmp_path)
    assert values(lost)["delta-1"] == 0
    assert values(lost)["delta-1 of float32"] == 0
    assert lost.drop_of == "delta-1 fitted"
    assert lost.drop.points > 10


@pytest.mark.parametrize(
    ("shape", "truth", "words"),
    [
        ((4, 4, 2), np.ones((4, 4), np.float32), "holds numbers, and the map has 2 channels"),
        ((4, 4), np.ones((4, 4), np.uint8), "holds classes, and the map has 1 channel:"),
        ((4, 4, 2), np.full((4, 4), 2), "ground truth has class 2, and the map 2 channels"),
        ((4, 4, 2), np.full((4, 4), 255), "no pixel that the model sees is labelled"),
        ((4, 4), np.full((4, 4), np.nan), "no pixel that the model sees has a known number"),
    ],
)
def test_ground_truth_of_another_model_is_refused(
    shape: tuple[int, ...], truth: npt.NDArray[np.generic], words: str, tmp_path: Path
) -> None:
    made = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    with pytest.raises(DataError, match=words):
        quality(made, made, [truth], tmp_path)
