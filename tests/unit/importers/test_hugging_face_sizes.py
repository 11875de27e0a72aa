"""Hugging Face's models on images of another size, against what transformers computes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.golden_cases import GOLDEN, TOLERANCE
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward

SIZES = GOLDEN / "hugging_face_sizes.npz"
with np.load(SIZES) as _arrays:
    EXPECTED = dict(_arrays)


@pytest.mark.parametrize("case", EXPECTED)
def test_another_size_gives_what_transformers_computes(case: str, tmp_path: Path) -> None:
    found = re.fullmatch(r"(\w+) (\d+)x(\d+)( config)?", case)
    assert found is not None
    name, height, width, configured = found[1], int(found[2]), int(found[3]), found[4]
    folder = Path(shutil.copytree(GOLDEN / f"hugging_face_{name}", tmp_path / name))
    options = ImportOptions(image_size=(height, width))
    if configured:
        options = ImportOptions()
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config["image_size"] = [height, width]
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        processor = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
        processor["size"] = {"height": height, "width": width}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    network = read_model(folder, options).network
    images = np.random.default_rng(7).integers(0, 256, (2, height, width, 3), np.uint8)
    expected = EXPECTED[case]
    difference = np.abs(forward(network, images) - expected).max()
    assert difference / np.ptp(expected) <= TOLERANCE
