from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitedge.bench import accuracy as bench_accuracy
from vitedge.bench.accuracy import Truth, accuracy, right_bits, versus_float
from vitedge.errors import DataError, ModelError


def truth_of(labels: list[int], usable: list[bool] | None = None) -> Truth:
    return Truth(
        names=[f"{index}.jpg" for index in range(len(labels))],
        labels=np.array(labels, np.int64),
        class_names=(),
        usable=np.array(usable or [True] * len(labels)),
    )


def random_logits(n: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)


@given(n=st.integers(1, 40), classes=st.integers(2, 12), seed=st.integers(0, 1000))
def test_top_k_is_what_sorting_gives_whatever_the_chunks(n: int, classes: int, seed: int) -> None:
    logits = random_logits(n, classes, seed)
    labels = np.random.default_rng(seed + 1).integers(0, classes, n)
    order = np.argsort(-logits, axis=1)
    first = 100 * np.mean(order[:, 0] == labels)
    fifth = 100 * np.mean((order[:, :5] == labels[:, None]).any(axis=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_accuracy, "_CHUNK_ROWS", 7)
        found = accuracy(logits, truth_of(labels.tolist()))
    assert found is not None
    # Shares of at most 40 images in percent: nothing but float64 rounding.
    assert (found.top1, found.top5) == pytest.approx((first, fifth), abs=1e-9)
    assert found.top1_low <= found.top1 <= found.top1_high


def test_constant_logits_are_right_only_for_the_class_that_argmax_names() -> None:
    found = accuracy(np.ones((10, 10), np.float32), truth_of(list(range(10))))
    assert found is not None
    assert (found.top1, found.top5) == (10, 50)


def test_unlabelled_and_unreadable_images_do_not_count() -> None:
    logits = np.eye(4, dtype=np.float32)
    found = accuracy(logits, truth_of([0, -1, 2, 0], [True, True, True, False]))
    assert found is not None
    assert (found.top1, found.n) == (100, 2)
    assert accuracy(logits, truth_of([-1] * 4)) is None


def test_which_images_are_right_can_be_read_back() -> None:
    logits = np.eye(11, dtype=np.float32)
    labels = [index if index % 3 else 0 for index in range(10)] + [-1]
    found = accuracy(logits, truth_of(labels))
    assert found is not None
    right = [index % 3 != 0 or index == 0 for index in range(10)]
    assert right_bits(found.right)[:11].tolist() == [*right, False]
    assert not right_bits(found.right)[11:].any()


def test_a_label_beyond_the_classes_is_an_error_that_shows_both() -> None:
    with pytest.raises(DataError, match=r"index 4.*only 4 classes"):
        accuracy(np.eye(4, dtype=np.float32), truth_of([0, 1, 2, 4]))


def test_sqnr_is_the_power_of_the_signal_over_that_of_the_error() -> None:
    reference = random_logits(50, 10, 0)
    found = versus_float(reference * np.float32(1.1), reference, truth_of([-1] * 50))
    assert found is not None
    # An error of a tenth is 20 dB; float32 rounding of 1.1 moves it by 1e-5.
    assert found.sqnr_db == pytest.approx(20, abs=1e-3)
    assert (found.agreement, found.newly_wrong, found.newly_right) == (100, None, None)


def test_logits_equal_to_the_bit_have_no_sqnr() -> None:
    logits = random_logits(5, 3, 0)
    found = versus_float(logits, logits.copy(), truth_of([0] * 5))
    assert found is not None
    assert found.sqnr_db is None


def test_flips_are_counted_both_ways_and_the_worst_are_named() -> None:
    reference = np.array([[2, 1, 0], [2, 1, 0], [0, 2, 1], [0, 0, 5]], np.float32)
    ours = np.array([[1, 2, 0], [1, 4, 0], [0, 2, 1], [0, 0, 5]], np.float32)
    found = versus_float(ours, reference, truth_of([0, 1, 1, 2]))
    assert found is not None
    assert (found.agreement, found.flipped) == (50, 2)
    assert (found.newly_wrong, found.newly_right) == (1, 1)
    assert found.drop is not None
    assert (found.drop.points, found.drop.n) == (0, 4)
    assert found.drop.low < 0 < found.drop.high
    (confusion,) = found.confusions
    assert (confusion.reference, confusion.artifact, confusion.n) == ("0", "1", 2)
    assert confusion.images == ("1.jpg", "0.jpg")
    assert [flip.image for flip in found.flips] == ["1.jpg", "0.jpg"]
    assert found.worst[0].image == "1.jpg"
    assert (found.worst[0].reference, found.worst[0].artifact) == ("0", "1")


def test_a_reference_of_another_number_of_classes_is_an_error() -> None:
    with pytest.raises(ModelError, match="10 classes, the reference 9"):
        versus_float(random_logits(2, 10, 0), random_logits(2, 9, 0), truth_of([0, 0]))
