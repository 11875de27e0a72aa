"""`.keras` archives by way of a folder: what Keras writes, it reads; nothing else is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from vitedge.files.keras_archives import save_packed, unpacked


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def test_what_is_packed_is_an_archive_as_keras_writes_it(
    model: keras.Model, tmp_path: Path
) -> None:
    save_packed(model, tmp_path / "ours.keras")
    model.save(tmp_path / "keras.keras")
    members = []
    for name in ("ours.keras", "keras.keras"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            members.append({each.filename: each.compress_type for each in archive.infolist()})
    assert members[0] == members[1]
    found = keras.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(found.layers[0].kernel, model.layers[0].kernel)
    assert {each.name for each in tmp_path.iterdir()} == {"ours.keras", "keras.keras"}


def test_an_archive_of_keras_is_a_folder_for_a_while(model: keras.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    with unpacked(tmp_path / "model.keras") as folder:
        found = keras.saving.load_model(folder)
    np.testing.assert_array_equal(found.layers[0].kernel, model.layers[0].kernel)
    assert not folder.exists()


def test_what_might_swell_and_what_is_no_archive_stay_where_they_are(tmp_path: Path) -> None:
    swelling, plain = tmp_path / "bomb.keras", tmp_path / "model.h5"
    with zipfile.ZipFile(swelling, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(1 << 20))
    plain.write_bytes(b"no archive")
    for path in (swelling, plain):
        with unpacked(path) as found:
            assert found == path
