"""What every by-name importer promises, over checkpoints made by the libraries themselves."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.golden_cases import BY_NAME, GOLDEN, GoldenCase, assert_imported, golden_cases
from vitedge.errors import ModelError, VitedgeError
from vitedge.importers import importers, read_model
from vitedge.importers.positions import interpolate_positions

CASES = golden_cases()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return request.param


def test_exactly_one_importer_recognizes_it_and_computes_the_same_logits(case: GoldenCase) -> None:
    assert_imported(case)


def test_the_golden_files_stay_small(case: GoldenCase) -> None:
    files = [path for path in case.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000


# Files that a library writes beside the checkpoint, and that the importer has no use for.
UNREAD = {
    "keras-hub": {"metadata.json", "config.json", "preprocessor.json"},
    "vit-tutorial": {"saved_model.pb", "keras_metadata.pb", "fingerprint.pb"},
}


def model_files(case: GoldenCase) -> list[Path]:
    """The files of the checkpoint that the importer reads."""
    if case.model.is_file():
        return [case.model]
    others = {"case.json", "expected.npz"} | UNREAD.get(case.importer, set())
    files = (path for path in case.model.rglob("*") if path.is_file())
    return sorted(path for path in files if path.name not in others)


def copied(case: GoldenCase, folder: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    target = folder / case.folder.name
    shutil.copytree(case.folder, target)
    return target / case.model.relative_to(case.folder)


def read_by_name(path: Path, case: GoldenCase) -> None:
    """Reads with every importer by name that recognises the source."""
    for importer in importers():
        if importer.rank == BY_NAME and importer.recognizes(path):
            importer.read(path, case.options)
            return
    raise ModelError("no importer recognises it")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_one_clear_error(
    case: GoldenCase, share: float, tmp_path: Path
) -> None:
    model = copied(case, tmp_path)
    for original in model_files(case):
        damaged = tmp_path / case.folder.name / original.relative_to(case.folder)
        data = original.read_bytes()
        damaged.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ModelError) as caught:
            read_by_name(model, case)
        assert "\n" not in str(caught.value)
        damaged.write_bytes(data)


def flipped_cases() -> list[Any]:
    """One case of each importer and kind of files every day, and all in CI."""
    known: set[tuple[str, ...]] = set()
    found = []
    for each in CASES:
        kind = (each.importer, *sorted({path.suffix for path in model_files(each)}))
        marks = [pytest.mark.slow] if kind in known else [pytest.mark.thorough]
        found.append(pytest.param(each, marks=marks, id=each.name))
        known.add(kind)
    return found


@pytest.mark.parametrize("case", flipped_cases())
def test_flipped_bytes_give_a_model_or_one_clear_error(case: GoldenCase, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = copied(case, tmp_path)
    for original in model_files(case):
        damaged = tmp_path / case.folder.name / original.relative_to(case.folder)
        data = np.frombuffer(original.read_bytes(), np.uint8)
        for _ in range(25):
            changed = data.copy()
            # Headers lie at either end; in between are weights, where any bits are a number.
            at = int(rng.integers(min(2000, len(data)))) * int(rng.choice([1, -1]))
            changed[at] ^= np.uint8(1 << rng.integers(8))
            damaged.write_bytes(changed.tobytes())
            with contextlib.suppress(VitedgeError):
                read_by_name(model, case)
        damaged.write_bytes(data.tobytes())


def test_neither_engines_nor_the_files_own_code_are_needed() -> None:
    # A SavedModel's variables are in a format that TensorFlow alone reads.
    program = """
import sys
from tests.support.golden_cases import golden_cases
from vitedge.importers import importers
for case in golden_cases():
    if "saved_model" not in case.name:
        found = next(each for each in importers() if each.recognizes(case.model))
        found.read(case.model, case.options)
loaded = {"keras", "tensorflow", "torch", "keras_hub", "tf_keras"} & sys.modules.keys()
sys.exit(f"loaded {loaded}" if loaded else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_file_and_a_folder_of_no_model_are_nobodys(tmp_path: Path) -> None:
    text = tmp_path / "notes.safetensors"
    text.write_text("weights?")
    for path in (text, tmp_path, tmp_path / "absent.pth"):
        assert not any(importer.recognizes(path) for importer in importers())
        with pytest.raises(ModelError):
            read_model(path)


def test_positions_are_interpolated_as_timm_does_it() -> None:
    with np.load(GOLDEN / "positions.npz") as arrays:
        names = [name.removesuffix("_from") for name in arrays if name.endswith("_from")]
        assert names
        for name in names:
            old, new = (
                (int(grid.split("x")[0]), int(grid.split("x")[1])) for grid in name.split("_")
            )
            found = interpolate_positions(arrays[f"{name}_from"], old, new)
            # torch places the kernel in float32, 1e-6 off at 14 patches; ours is exact there.
            np.testing.assert_allclose(found, arrays[f"{name}_to"], atol=1e-5, err_msg=name)
