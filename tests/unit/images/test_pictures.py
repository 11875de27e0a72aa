"""Pictures are decoded, whatever their files are called, and nothing else is done with them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vitedge.cli import main
from vitedge.errors import DataError
from vitedge.files import limits
from vitedge.images.pictures import PICTURE_FORMATS, open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
ROOT = Path(__file__).parents[3]
ARTIFACT = ROOT / "vitedge" / "bench" / "builtin" / "digits.int8.onnx"

PROGRAMS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
    "PostScript behind a preview": b"\xc5\xd0\xd3\xc6" + bytes([30, 0, 0, 0]) + bytes(40),
    "Windows metafile": b"\xd7\xcd\xc6\x9a" + bytes(64),
    "PDF": b"%PDF-1.4\n",
}

# What people have, and Pillow can write.
WRITTEN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "TGA", "PCX")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_photo_that_is_a_program_is_refused_whatever_its_name(name: str, tmp_path: Path) -> None:
    photo = tmp_path / "cat.jpg"
    photo.write_bytes(PROGRAMS[name])
    for image in (photo, PROGRAMS[name]):
        with pytest.raises(DataError, match="not an image that Pillow can read"):
            open_image(image)


def test_no_format_that_runs_a_program_or_asks_a_foreign_reader_is_read() -> None:
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "FPX", "MIC", "PDF"} & set(PICTURE_FORMATS)


def test_pillow_opens_pictures_in_one_place_and_always_by_a_list_of_formats() -> None:
    sources = [*(ROOT / "vitedge").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    calls = {path.name: re.findall(r"Image\.open\(.*", path.read_text("utf-8")) for path in sources}
    assert {name: found for name, found in calls.items() if found} == {
        "pictures.py": ["Image.open(source, formats=known)"]
    }


@pytest.mark.parametrize("kind", WRITTEN)
def test_pictures_of_every_usual_kind_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.of_no_known_extension"
    Image.fromarray(PIXELS).save(path, kind)
    picture = open_image(path).convert("RGB")
    assert picture.size == (16, 12)
    assert np.abs(np.asarray(picture).astype(int) - PIXELS).mean() < 90  # JPEG and GIF lose some


@pytest.mark.skipif("AVIF" not in Image.SAVE and not Image.init(), reason="Pillow lacks AVIF")
def test_avif_is_read_where_pillow_has_it(tmp_path: Path) -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(PIXELS).save(tmp_path / "a.avif", quality=100)
    assert open_image(tmp_path / "a.avif").size == (16, 12)


def test_sixteen_bits_are_scaled_in_bands_to_the_same_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (37, 19), np.uint16)
    monkeypatch.setattr("vitedge.images.pictures._BAND_PIXELS", 19 * 5)
    stream = io.BytesIO()
    Image.fromarray(wide).save(stream, "PNG")
    np.testing.assert_array_equal(np.asarray(open_image(stream.getvalue())), wide // 257)


def bomb(side: int) -> bytes:
    """A PNG that claims to be a square of so many pixels, and ends there."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded_and_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DataError, match="too large a picture") as refused:
        open_image(bomb(30_000))
    assert "\n" not in str(refused.value)
    monkeypatch.setenv(limits.VARIABLE, "100MB")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with pytest.raises(DataError, match="--max-source-size"):
        open_image(bomb(3_500))
    open_image(PIXELS)


def test_the_bound_on_pictures_can_be_raised_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    photo = tmp_path / "photo.png"
    Image.new("L", (100, 100)).save(photo)
    refused = CliRunner().invoke(main, ["predict", str(ARTIFACT), str(photo)])
    assert refused.exit_code == 1
    assert "too large a picture" in refused.output
    assert "--max-source-size" in refused.output
    raised = ["predict", "--max-source-size", "8GB", str(ARTIFACT), str(photo)]
    assert CliRunner().invoke(main, raised).exit_code == 0
    assert limits.most_bytes() == limits.DEFAULT_BYTES


@pytest.mark.parametrize("text", ["", "0", "8XB", "-1GB", "1e9", "٣GB", "9" * 40])
def test_a_size_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    command = ["inspect", "--max-source-size", text, str(tmp_path)]
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 2
    assert "is not a size" in ended.output
