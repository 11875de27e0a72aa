from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vitedge.bench.workers.spool import count_spool, read_spool, write_spool
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample


def test_every_form_of_image_arrives_with_the_same_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    picture = Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    (tmp_path / "é.png").write_bytes(stream.getvalue())
    images = [pixels, pixels[:, :, 0], stream.getvalue(), picture, tmp_path / "é.png"]
    index = write_spool([Sample(str(i), image, None) for i, image in enumerate(images)], tmp_path)
    preprocessing = Preprocessing(size=(6, 5))
    arrived = [preprocessing(image) for image in read_spool(index)]
    expected = [preprocessing(image) for image in images]
    assert count_spool(index) == len(images)
    np.testing.assert_array_equal(arrived, expected)
