"""Preprocessing against what it stands for: torchvision's and timm's evaluation transforms."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitedge.errors import DataError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing

GOLDEN = Path(__file__).parents[2] / "golden" / "pixels.npz"
PIXELS = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)


def encoded(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


@dataclass(frozen=True)
class Form:
    name: str
    image: object


FORMS = [
    Form("array", PIXELS),
    Form("picture", Image.fromarray(PIXELS)),
    Form("bytes", encoded(Image.fromarray(PIXELS))),
    Form("with alpha", Image.fromarray(PIXELS).convert("RGBA")),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_of_an_image_gives_the_same_pixels(form):
    preprocessing = Preprocessing(size=(13, 17))
    np.testing.assert_array_equal(preprocessing(form.image), PIXELS)


class Tensor:
    """As tensors of other libraries are: no array, but one can be made of it."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return PIXELS


@pytest.mark.parametrize(
    "form",
    [
        Tensor(),
        np.dstack([PIXELS, np.full(PIXELS.shape[:2], 9, np.uint8)]),
        bytearray(encoded(Image.fromarray(PIXELS))),
    ],
    ids=["tensor", "four channels of a camera", "bytearray"],
)
def test_what_apps_hand_over_gives_the_same_pixels(form):
    preprocessing = Preprocessing(size=(8, 8))
    np.testing.assert_array_equal(preprocessing(form), preprocessing(PIXELS))


def test_an_open_file_is_read_from_where_it_stands():
    preprocessing = Preprocessing(size=(8, 8))
    file = io.BytesIO(encoded(Image.fromarray(PIXELS)))
    np.testing.assert_array_equal(preprocessing(file), preprocessing(PIXELS))


def test_a_generator_is_a_batch():
    preprocessing = Preprocessing(size=(8, 8))
    batch = preprocessing.batch(PIXELS for _ in range(2))
    assert batch.shape == (2, 8, 8, 3)


def test_a_path_is_read(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    for name in (path, str(path)):
        np.testing.assert_array_equal(Preprocessing(size=(13, 17))(name), PIXELS)


def test_a_grey_model_takes_colours_as_their_luminance():
    grey = Preprocessing(size=(13, 17), channels=1, mean=(0.5,), std=(0.5,))
    expected = np.asarray(Image.fromarray(PIXELS).convert("L"))[..., None]
    np.testing.assert_array_equal(grey(PIXELS), expected)


def test_a_colour_model_repeats_a_grey_image():
    pixels = Preprocessing(size=(13, 17))(PIXELS[..., 0])
    np.testing.assert_array_equal(pixels, np.repeat(PIXELS[..., :1], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_from_a_phone_stands_upright(orientation):
    picture = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(picture, exif=exif)
    # EXIF 2.32, table 6: what must be done to show the picture upright.
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: PIXELS.transpose(1, 0, 2)[:, ::-1],
        7: PIXELS.transpose(1, 0, 2)[::-1, ::-1],
        8: PIXELS.transpose(1, 0, 2)[::-1],
    }[orientation]
    size = upright.shape[:2]
    np.testing.assert_array_equal(Preprocessing(size=size)(turned), upright)


@settings(deadline=None, max_examples=50)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(1, 12),
    margin=st.integers(0, 5),
    channels=st.sampled_from([1, 3]),
)
def test_any_image_becomes_the_models_input(width, height, size, margin, channels):
    values = (0.5,) * channels
    preprocessing = Preprocessing(
        size=(size, size), channels=channels, resize=size + margin, mean=values, std=values
    )
    pixels = preprocessing(np.full((height, width, 3), 77, np.uint8))
    assert pixels.shape == (size, size, channels)
    # A picture of one value stays one, whatever filter and crop.
    assert (pixels == 77).all()


def golden_cases() -> list[tuple[int, dict[str, object]]]:
    """What ``reference/make_pixels.py`` had torchvision and timm do."""
    with np.load(GOLDEN) as arrays:
        return list(enumerate(json.loads(bytes(arrays["described"]))["cases"]))


@pytest.mark.parametrize(
    ("number", "case"),
    golden_cases(),
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_pixels_are_those_of_the_training_library_to_the_bit(number, case):
    preprocessing = Preprocessing.from_dict({**Preprocessing((1, 1)).to_dict(), **case})
    with np.load(GOLDEN) as arrays:
        for index, expected in enumerate(arrays[f"pixels_{number}"]):
            np.testing.assert_array_equal(preprocessing(arrays[f"picture_{index}"]), expected)


def test_the_network_sees_what_it_saw_in_timm():
    preprocessing = Preprocessing(size=(24, 24), resize=26)
    with np.load(GOLDEN) as arrays:
        found = preprocessing.normalize(preprocessing(arrays["picture_1"]))
        # Two float32 roundings of values up to 2.7.
        np.testing.assert_allclose(found, arrays["normalized"], atol=1e-6)


def test_the_centre_crop_is_torchvisions():
    # Shorter side 10 to 5: 20 x 10 becomes 10 x 5, and round(2.5) is 2, to even.
    columns = np.broadcast_to(np.arange(20, dtype=np.uint8)[None, :, None] * 10, (10, 20, 3))
    preprocessing = Preprocessing(size=(5, 5), resize=5, interpolation=Interpolation.NEAREST)
    expected = np.asarray(
        Image.fromarray(np.ascontiguousarray(columns))
        .resize((10, 5), Image.Resampling.NEAREST)
        .crop((2, 0, 7, 5))
    )
    np.testing.assert_array_equal(preprocessing(np.ascontiguousarray(columns)), expected)


def test_a_batch_stacks_its_images():
    preprocessing = Preprocessing(size=(4, 4))
    batch = preprocessing.batch([PIXELS, PIXELS[::-1].copy()])
    assert batch.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(batch[0], preprocessing(PIXELS))
    assert preprocessing.batch([]).shape == (0, 4, 4, 3)


def test_normalizing_is_the_published_formula():
    preprocessing = Preprocessing(size=(1, 1), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    pixels = np.array([[[[255, 0, 51]]]], np.uint8)
    # Two float32 roundings.
    np.testing.assert_allclose(preprocessing.normalize(pixels), [[[[1, -1, 0.2]]]], rtol=1e-6)


@pytest.mark.parametrize("resize", [None, 9, (8, 9)])
def test_it_survives_json(resize):
    preprocessing = Preprocessing(size=(8, 6), resize=resize, interpolation=Interpolation.LANCZOS)
    written = json.loads(json.dumps(preprocessing.to_dict()))
    assert Preprocessing.from_dict(written) == preprocessing


@pytest.mark.parametrize(
    ("resize", "scaled"), [(None, None), (10, 20), ((12, 9), (24, 18))], ids=str
)
def test_the_crop_keeps_its_share_at_another_size(resize, scaled):
    preprocessing = Preprocessing((8, 6), resize=resize)
    assert preprocessing.at_size((16, 12)) == Preprocessing((16, 12), resize=scaled)


def test_what_is_seen_of_a_stretched_picture_is_its_middle():
    # 40 x 20 becomes 10 x 10, of whose middle 8 x 8 are kept.
    assert Preprocessing((8, 8), resize=(10, 10)).seen((20, 40)) == (2, 4, 16, 32)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"mean": (0.5,)},
        {"std": (0.0, 1.0, 1.0)},
        {"size": (0, 8)},
        {"resize": 7},
        {"resize": (8, 7)},
        {"resize": (8, 70_000)},
    ],
    ids=str,
)
def test_impossible_choices_are_refused(change):
    with pytest.raises(ValueError, match=r"must|need|leaves|over"):
        replace(Preprocessing(size=(8, 8)), **change)


@pytest.mark.parametrize("missing", ["size", "channels", "resize", "interpolation", "mean", "std"])
def test_a_garbled_description_is_refused(missing):
    values = Preprocessing(size=(8, 8)).to_dict()
    del values[missing]
    with pytest.raises(ValueError, match=missing):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", "8 bytes is not an image"),
        (encoded(Image.fromarray(PIXELS))[:60], "60 bytes is not an image"),
        ("missing.png", "there is no image 'missing.png'"),
        (PIXELS.astype(np.float32), "must be uint8"),
        ((PIXELS / 255).astype(np.float32), r"give \(255 \* pixels\).round\(\).astype\('uint8'\)"),
        (PIXELS.astype(np.float64), r"give \(pixels\).round\(\)"),
        (PIXELS.astype(np.float32) * 2 - 255, "from -255 to 255$"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (PIXELS.transpose(2, 0, 1), r"give pixels.transpose\(1, 2, 0\)"),
        (PIXELS[None], r"classify_batch\(list\(pixels\)\)"),
        (io.StringIO("text"), "opened as text"),
        (7, "a int is not an image"),
    ],
    ids=[
        *("foreign", "truncated", "missing", "float", "floats of 0..1", "floats of 0..255"),
        *("standardized", "two channels", "channels first", "a batch", "a text file", "a number"),
    ],
)
def test_what_is_no_image_is_one_clear_line(image, message):
    with pytest.raises(DataError, match=message) as caught:
        Preprocessing(size=(4, 4))(image)
    assert "\n" not in str(caught.value)
