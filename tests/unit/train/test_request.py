"""What `vitedge train` makes of its request, before and around the training itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitedge.errors import DataError, UsageError
from vitedge.importers import read_model
from vitedge.train import Epoch, Step, TrainingRecipe
from vitedge.train.progress import progress_line
from vitedge.train.request import TrainRequest, train_model
from vitedge.train.size import Size


def step(seconds_left: float) -> Step:
    return Step(
        done=3,
        of=9,
        loss=0.41234,
        accuracy=0.8827,
        images_per_second=950.4,
        seconds_left=seconds_left,
    )


@pytest.mark.parametrize(
    ("seconds", "left"), [(0, "0:00"), (59.6, "1:00"), (200, "3:20"), (7261, "2:01:01")]
)
def test_the_progress_line_says_loss_accuracy_speed_and_time_left(seconds, left):
    line = progress_line(step(seconds), None)
    assert line == f"loss 0.412, accuracy 88.3%, 950 images/s, {left} left"


@pytest.mark.parametrize(
    ("speed", "words"), [(1752.6, ", 1,753 images/s,"), (8.4213, ", 8.42 images/s,")]
)
def test_a_speed_is_a_plain_number(speed, words):
    assert words in progress_line(replace(step(0), images_per_second=speed), None)


def test_the_progress_line_says_what_was_measured_last():
    assert "accuracy 88.3%, held out 91.5%, 950" in progress_line(step(0), 0.9151)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (Size(dim=64), "only --image-size goes with --init, not dim 64"),
        (Size(preset="base"), "not preset base"),
        (Size(channels=1), "not channels 1"),
    ],
)
def test_a_model_that_exists_keeps_its_size(tmp_path: Path, size: Size, words: str):
    request = TrainRequest(
        Path("digits"), tmp_path / "out.keras", size=size, init=tmp_path / "model.keras"
    )
    with pytest.raises(UsageError, match=words):
        train_model(request)


def small_request(folder: Path, classes: int) -> TrainRequest:
    """Twelve images of noise in an .npz that does not name its classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    np.savez(folder / "set.npz", images=pixels, labels=np.arange(12) % classes)
    return TrainRequest(
        folder / "set.npz",
        folder / "model.keras",
        size=Size(image_size=8, patch_size=4, dim=8, depth=1, heads=1, mlp_dim=8, channels=1),
        recipe=TrainingRecipe(epochs=1, batch_size=4, warmup_epochs=0),
        mixed_precision="off",
    )


@pytest.mark.thorough
def test_classes_without_names_are_numbered(tmp_path: Path):
    train_model(small_request(tmp_path, 3))
    assert read_model(tmp_path / "model.keras").network.labels == ("0", "1", "2")


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path):
    with pytest.raises(DataError, match="has only the class '0'"):
        train_model(small_request(tmp_path, 1))


def test_an_interrupted_run_is_not_overwritten_unasked(tmp_path: Path):
    def interrupt(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    request = small_request(tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        train_model(request, on_epoch=interrupt)
    with pytest.raises(UsageError, match=r"model.run' holds a run .* --resume continues it"):
        train_model(request)
    train_model(replace(request, resume=True))
    assert (tmp_path / "model.keras").exists()
    assert "Epoch 1 of 1" in (tmp_path / "model.run" / "report.html").read_text("utf-8")


def test_folds_measure_every_image_and_the_model_learns_from_all(tmp_path: Path):
    request = replace(small_request(tmp_path, 3), folds=2)
    outcome = train_model(request)
    assert outcome.folds is not None
    assert (outcome.folds.count, outcome.folds.images) == (2, 12)
    assert 0 <= outcome.folds.right <= 12
    assert outcome.trained.held_out_accuracy is None
    assert "12 of set.npz" in (tmp_path / "model.run" / "report.html").read_text("utf-8")
    again = train_model(replace(request, resume=True))
    assert again.folds == outcome.folds
