"""The page prepares pictures as Pillow does, to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitedge.browser.packages import PIXELS
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing

PROGRAM = """
import fs from "node:fs";
const [, , module, folder] = process.argv;
const { prepare } = await import(module);
for (const [name, { width, height, how }] of Object.entries(
  JSON.parse(fs.readFileSync(`${folder}/cases.json`)),
)) {
  const rgba = fs.readFileSync(`${folder}/${name}.rgba`);
  fs.writeFileSync(`${folder}/${name}.found`, prepare(rgba, width, height, how));
}
"""


@dataclass(frozen=True)
class Case:
    """A picture's size, and how it is prepared."""

    picture: tuple[int, int]
    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    channels: int = 3


CASES = {
    "wide": Case((400, 300), (224, 224), 248),
    "tall": Case((301, 517), (224, 224), 248),
    "enlarged": Case((100, 90), (224, 224), None),
    "flat input": Case((640, 480), (96, 160), 200),
    "grey": Case((333, 222), (64, 64), 73, channels=1),
    "as it is": Case((224, 224), (224, 224), 224),
    "one axis": Case((225, 224), (224, 224), None),
    "stretched and cropped": Case((301, 517), (192, 224), (219, 255)),
    "half a pixel to crop": Case((77, 100), (31, 31), 32),
}


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js to run the page's module")
@pytest.mark.parametrize("interpolation", Interpolation, ids=str)
def test_the_pixels_are_pillows(interpolation: Interpolation, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    told, expected = {}, {}
    for name, case in CASES.items():
        width, height = case.picture
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        opaque = np.full((height, width, 1), 255, np.uint8)
        np.concatenate([pixels, opaque], axis=2).tofile(tmp_path / f"{name}.rgba")
        half = (0.5,) * case.channels
        how = Preprocessing(case.size, case.channels, case.resize, interpolation, half, half)
        told[name] = {"width": width, "height": height, "how": how.to_dict()}
        expected[name] = how(Image.fromarray(pixels))
    (tmp_path / "cases.json").write_text(json.dumps(told))
    (tmp_path / "program.mjs").write_text(PROGRAM)
    command = ["node", str(tmp_path / "program.mjs"), str(PIXELS), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    for name, pixels in expected.items():
        found = np.fromfile(tmp_path / f"{name}.found", np.uint8).reshape(pixels.shape)
        np.testing.assert_array_equal(found, pixels, name)
