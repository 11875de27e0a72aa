"""Ground truth of pixels: what is read, what is refused, and where it lies on a model's map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitedge.errors import DataError
from vitedge.images.image_sets import open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.images.true_maps import Grid, read_true_map

PHOTO = np.zeros((6, 8, 3), np.uint8)


def test_a_picture_holds_classes_and_255_is_none(tmp_path: Path) -> None:
    indices = np.arange(48, dtype=np.uint8).reshape(6, 8)
    indices[0, 0] = 255
    grey = Image.fromarray(indices)
    grey.save(tmp_path / "grey.png")
    palette = grey.copy()
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    expected = indices.astype(np.int64)
    expected[0, 0] = -1
    for name in ("grey.png", "palette.png"):
        np.testing.assert_array_equal(read_true_map(tmp_path / name, PHOTO), expected)


def test_an_array_of_floats_holds_numbers_and_what_is_not_above_zero_is_unknown(
    tmp_path: Path,
) -> None:
    depths = np.linspace(-1, 4, 48, dtype=np.float32).reshape(6, 8)
    depths[5, 7] = np.inf
    np.save(tmp_path / "depth.npy", depths)
    found = read_true_map(tmp_path / "depth.npy", PHOTO)
    known = np.isfinite(depths) & (depths > 0)
    np.testing.assert_array_equal(found[known], depths[known].astype(np.float64))
    assert np.isnan(found[~known]).all()


def test_an_array_of_integers_holds_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "classes.npy", np.full((6, 8), 300, np.int32))
    assert (read_true_map(tmp_path / "classes.npy", PHOTO) == 300).all()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", np.zeros((8, 6), np.uint8), "is 6 x 8, and its image 8 x 6"),
        ("a.npy", np.zeros((6, 8, 1), np.float32), r"holds float32 \(6, 8, 1\)"),
        ("a.npy", np.zeros((6, 8), np.bool_), "holds bool"),
        ("a.npy", b"not an array", "cannot read"),
        ("a.png", np.zeros((6, 8, 3), np.uint8), "is a PNG of mode RGB"),
        ("a.png", np.zeros((6, 8), np.uint16), "is a PNG of mode I;16"),
        ("a.png", b"not a picture", "cannot read"),
        ("a.jpg", np.zeros((6, 8), np.uint8), "is not ground truth"),
    ],
)
def test_what_cannot_be_ground_truth_is_refused(
    name: str, content: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray) and name.endswith(".npy"):
        np.save(path, content)
    else:
        Image.fromarray(np.asarray(content)).save(path)
    with pytest.raises(DataError, match=words):
        read_true_map(path, PHOTO)


def test_a_map_s_places_are_those_that_the_model_sees() -> None:
    truth = np.arange(6 * 8).reshape(6, 8)
    stretched = Grid(Preprocessing((4, 4)), (2, 2))
    np.testing.assert_array_equal(stretched.over(truth), truth[[1, 4]][:, [2, 6]])
    # The shorter side to 6 keeps every pixel, and the crop takes the 4 x 4 in the middle.
    cropped = Grid(Preprocessing((4, 4), resize=6), (4, 4, 3))
    np.testing.assert_array_equal(cropped.over(truth), truth[1:5, 2:6])
    assert (stretched.channels, cropped.channels) == (1, 3)


def test_a_labels_file_names_ground_truth(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones((6, 8), np.float32))
    table = tmp_path / "labels.csv"
    table.write_text("file,truth\na.png,a.npy\n")
    (sample,) = open_images(tmp_path).samples
    assert (sample.label, sample.truth) == (None, str(tmp_path / "a.npy"))
    table.write_text("file,label,truth\na.png,cat,a.npy\n")
    (sample,) = open_images(tmp_path, ("dog", "cat")).samples
    assert (sample.label, sample.truth) == (1, str(tmp_path / "a.npy"))
    table.write_text("file,truth\na.png,b.npy\n")
    with pytest.raises(DataError, match=r"line 2 of .* names 'b\.npy', which is not there"):
        open_images(tmp_path)
    table.write_text("file,truth\na.png,\n")
    with pytest.raises(DataError, match=r"line 2 of .* lacks a file or a truth"):
        open_images(tmp_path)
