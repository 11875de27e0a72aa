"""What frozen layers compute once: the same as in every epoch, mirrored or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.e2e.train.test_runs import QUICK, assert_same_weights, halves, small_network
from vitedge.errors import VitedgeError
from vitedge.train import Augmentation, Epoch, TrainingRecipe, run, train
from vitedge.train.frozen import (
    FrozenOutputs,
    can_be_kept,
    kept_batches,
    kept_evaluation_batches,
)
from vitedge.train.share import shares

pytestmark = pytest.mark.slow

MIRRORED = Augmentation(flip=True)
RECIPE = replace(QUICK, trainable_blocks=1, augmentation=MIRRORED)
PIXELS = np.arange(10 * 2 * 3, dtype=np.float32).reshape(10, 2, 3, 1)
LABELS = np.arange(10) % 3


def outputs(folder: Path | None = None, *, mirrored: bool = True) -> FrozenOutputs:
    """Kept "outputs" that are the pixels themselves."""
    batches = tf.data.Dataset.from_tensor_slices((PIXELS, LABELS)).batch(4)
    return FrozenOutputs(
        batches,
        LABELS,
        lambda pixels: pixels,
        mirrored=mirrored,
        folder=folder,
        progress=lambda done, total: None,
    )


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"augmentation": Augmentation()}, True),
        ({"trainable_blocks": 0}, True),
        ({"trainable_blocks": None}, False),
        ({"augmentation": Augmentation(crop=0.9)}, False),
        ({"augmentation": Augmentation(flip=True, mixup=0.1)}, False),
        ({"augmentation": Augmentation(operations=1)}, False),
        ({"augmentation": Augmentation(shift=0.1)}, False),
    ],
    ids=str,
)
def test_only_what_an_epoch_does_not_change_is_kept(changes, kept):
    assert can_be_kept(replace(RECIPE, **changes), None) is kept


def test_a_teacher_needs_the_pixels():
    assert not can_be_kept(RECIPE, small_network())


class TestOutputs:
    def test_come_back_as_they_were_and_in_any_order(self):
        kept = outputs()
        assert len(kept) == 10
        assert kept.shape == (2, 3, 1)
        np.testing.assert_array_equal(kept.rows(np.array([7, 2])), PIXELS[[7, 2]])

    def test_are_mirrored_for_every_second_image(self):
        indices = np.arange(1000) % 10
        rows = outputs().rows(indices, np.arange(1000) % 2)
        plain = (rows == PIXELS[indices]).all((1, 2, 3))
        mirrored = (rows == PIXELS[indices][:, :, ::-1]).all((1, 2, 3))
        np.testing.assert_array_equal(plain, np.arange(1000) % 2 == 0)
        np.testing.assert_array_equal(mirrored, np.arange(1000) % 2 == 1)

    def test_are_mirrored_every_second_time_in_training(self):
        recipe = TrainingRecipe(epochs=100, batch_size=10, warmup_epochs=0)
        rows = np.concatenate([rows for rows, _ in kept_batches(outputs(), 3, recipe)])
        # Every image is brighter to the right, unless it is mirrored.
        mirrored = (rows[:, 0, 0, 0] > rows[:, 0, -1, 0]).sum()
        assert 400 < mirrored < 600  # six deviations of a fair coin

    def test_are_never_mirrored_unasked(self):
        recipe = TrainingRecipe(epochs=10, batch_size=10, warmup_epochs=0)
        rows = np.concatenate(
            [rows for rows, _ in kept_batches(outputs(mirrored=False), 3, recipe)]
        )
        assert (rows[:, 0, 0, 0] < rows[:, 0, -1, 0]).all()

    def test_are_shared_by_replicas_as_they_would_be_by_one(self):
        recipe = TrainingRecipe(epochs=3, batch_size=10, warmup_epochs=0)
        whole = list(kept_batches(outputs(), 3, recipe))
        for share in shares(10, 2):
            part = list(kept_batches(outputs(), 3, recipe, share=share))
            for (rows, targets), (mine, my_targets) in zip(whole, part, strict=True):
                positions = list(share.positions)
                np.testing.assert_array_equal(mine, rows.numpy()[positions])
                np.testing.assert_array_equal(my_targets, targets.numpy()[positions])

    def test_keep_their_targets_in_training(self):
        recipe = TrainingRecipe(epochs=2, batch_size=4, warmup_epochs=0)
        batches = list(kept_batches(outputs(mirrored=False), 3, recipe))
        assert len(batches) == 6
        for rows, targets in batches:
            numbers = rows.numpy()[:, 0, 0, 0].astype(int) // 6
            np.testing.assert_array_equal(targets.numpy().argmax(1), LABELS[numbers])

    def test_are_evaluated_once_and_in_order(self):
        (batch,) = kept_evaluation_batches(outputs(), 3)
        np.testing.assert_array_equal(batch[0], PIXELS)
        np.testing.assert_array_equal(batch[1].numpy().argmax(1), LABELS)

    def test_leave_nothing_behind(self, tmp_path):
        kept = outputs(tmp_path / "run")
        assert len(kept) == 10
        assert not list((tmp_path / "run").iterdir())

    def test_that_find_no_place_are_an_error(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(
            VitedgeError, match=r"cannot keep what the frozen .* compute in '.*file"
        ):
            outputs(tmp_path / "file")


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_what_is_computed_once_teaches_what_it_teaches_each_time(monkeypatch, blocks):
    recipe = replace(QUICK, trainable_blocks=blocks)
    kept = train(small_network(), halves(), recipe, held_out=halves(30, seed=1))
    monkeypatch.setattr(run, "can_be_kept", lambda recipe, teacher: False)
    each_time = train(small_network(), halves(), recipe, held_out=halves(30, seed=1))
    for (name, array), (_, other) in zip(
        kept.network.named_arrays(), each_time.network.named_arrays(), strict=True
    ):
        # Products of other batch sizes round otherwise, and Adam's first steps enlarge it.
        np.testing.assert_allclose(array, other, rtol=0, atol=1e-3, err_msg=name)
    assert kept.held_out_accuracy == each_time.held_out_accuracy


def test_an_interrupted_run_resumes_to_the_same_result(tmp_path):
    whole = train(small_network(), halves(), RECIPE, held_out=halves(30, seed=1))

    def interrupt(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_network(), halves(), RECIPE, folder=tmp_path, on_epoch=interrupt)
    resumed = train(
        small_network(), halves(), RECIPE, held_out=halves(30, seed=1), folder=tmp_path, resume=True
    )
    assert_same_weights(resumed.network, whole.network)


def test_the_first_pass_tells_how_far_it_is():
    told: list[tuple[str, int, int]] = []
    train(
        small_network(),
        halves(),
        replace(RECIPE, epochs=1, warmup_epochs=0),
        held_out=halves(30, seed=1),
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert [each for each in told if "frozen" in each[0]] == [
        ("held-out images through the frozen layers", 1, 1),
        *(("images through the frozen layers", done, 12) for done in range(1, 13)),
    ]
