"""Folders of photos as people have them: broken files, formats of phones, one photo alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.readable_images import readable, warn_of_images


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder_of(tmp_path: Path, photos: int) -> Path:
    for index in range(photos):
        photo(tmp_path / "photos" / f"{index:02}.jpg", index)
    return tmp_path / "photos"


def warnings_of(images: ImageSet, *, calibrating: bool = True) -> str:
    said: list[str] = []
    warn_of_images(images, said.append, calibrating=calibrating)
    return "\n".join(said)


def test_a_phones_pictures_are_not_dropped_in_silence(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    for index in range(50):
        (folder / f"IMG_{index}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "clip.mov").write_bytes(b"moving")
    (folder / "notes.txt").write_text("about them")
    (folder / ".DS_Store").write_bytes(b"")
    images = open_images(folder)
    assert len(images.samples) == 2
    words = warnings_of(images)
    assert "50 .heic files (Pillow has no decoder for them: save them as JPEG)" in words
    assert "1 .mov file (not a picture by the extension)" in words
    assert "notes.txt" not in words
    assert ".ds_store" not in words


def test_a_folder_of_undecodable_pictures_says_why_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"holds no images.*1 \.heic file"):
        open_images(tmp_path)


def test_avif_is_read_where_pillow_decodes_it(tmp_path: Path) -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    photo(tmp_path / "a.avif")
    assert len(readable(open_images(tmp_path)).samples) == 1


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "cat" / "0.png")
    (tmp_path / "data" / "dog").mkdir()
    images = open_images(tmp_path / "data")
    assert images.class_names == ("cat",)
    assert "the folder 'dog' (it holds no images)" in warnings_of(images)


def test_a_bad_file_is_left_out_by_its_name_and_an_error_only_when_strict(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 12)
    whole = (folder / "00.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    images = readable(open_images(folder))
    assert len(images.samples) == 12
    words = warnings_of(images)
    assert "torn.jpg" in words
    assert "empty.png" in words
    with pytest.raises(DataError, match=r"empty\.png"):
        readable(open_images(folder), strict=True)


def test_a_set_without_any_readable_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 images"):
        readable(open_images(tmp_path))


@pytest.mark.parametrize(("photos", "words"), [(1, "1 calibration image:"), (12, "")])
def test_few_calibration_photos_are_a_warning(photos: int, words: str, tmp_path: Path) -> None:
    found = warnings_of(open_images(folder_of(tmp_path, photos)))
    assert (words in found) if words else not found


def test_few_photos_to_measure_on_are_not_warned_of_as_calibration(tmp_path: Path) -> None:
    assert not warnings_of(open_images(folder_of(tmp_path, 1)), calibrating=False)


def test_good_sets_are_returned_as_they_are(tmp_path: Path) -> None:
    images = open_images(folder_of(tmp_path, 3))
    assert readable(images) is images
