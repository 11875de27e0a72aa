"""What counts as news in a golden file that was made anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from reference.renewal import renew


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    folder = tmp_path / "golden" / "case"
    folder.mkdir(parents=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    model.save(folder / "model.keras")
    (folder / "case.json").write_text(json.dumps({"eps": 1e-6, "made_with": {"keras": "3.0"}}))
    np.savez(folder / "expected.npz", logits=np.ones((2, 5), np.float32))
    return folder.parent


@pytest.fixture
def fresh(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden, tmp_path / "fresh"))


def test_dates_versions_and_rounding_are_no_news(golden: Path, fresh: Path) -> None:
    before = (golden / "case" / "model.keras").read_bytes()
    model = keras.saving.load_model(fresh / "case" / "model.keras")
    model.save(fresh / "case" / "model.keras")
    (fresh / "case" / "case.json").write_text('{"eps": 1e-6, "made_with": {"keras": "4.0"}}')
    np.savez(fresh / "case" / "expected.npz", logits=np.float32(1 + 2e-7) * np.ones((2, 5), "f"))
    assert renew(fresh, golden) == []
    assert (golden / "case" / "model.keras").read_bytes() == before


def test_another_weight_is_news(golden: Path, fresh: Path) -> None:
    model = keras.saving.load_model(fresh / "case" / "model.keras")
    model.layers[0].bias.assign([0.0, 1e-3])
    model.save(fresh / "case" / "model.keras")
    assert renew(fresh, golden) == ["case"]
    found = keras.saving.load_model(golden / "case" / "model.keras")
    assert found.layers[0].bias.numpy().tolist() == [0.0, np.float32(1e-3)]


def test_another_file_another_field_and_another_logit_are_news(golden: Path, fresh: Path) -> None:
    shutil.copytree(golden / "case", golden / "second")
    shutil.copytree(golden / "case", golden / "third")
    shutil.copytree(golden / "case", fresh / "second")
    shutil.copytree(golden / "case", fresh / "third")
    (fresh / "case" / "more.json").write_text("{}")
    (fresh / "second" / "case.json").write_text('{"eps": 1e-5}')
    np.savez(fresh / "third" / "expected.npz", logits=1.001 * np.ones((2, 5), np.float32))
    shutil.copytree(golden / "case", fresh / "new")
    assert renew(fresh, golden) == ["case", "new", "second", "third"]
