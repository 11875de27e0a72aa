"""Large JPEG files may be decoded at a lower scale, and nothing else may change by it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vitedge
from vitedge.bench import builtin
from vitedge.images.preprocess import Preprocessing

WHOLE = Preprocessing(size=(32, 32), resize=40)
DRAFT = replace(WHOLE, draft=True)


def photo(width: int, height: int, form: str = "JPEG", **options: object) -> bytes:
    """Colours that change slowly, as an encoded file."""
    across, down = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = np.stack([np.sin(across), np.cos(down), np.sin(across + down)], axis=-1)
    stream = io.BytesIO()
    pixels = (127 + 100 * waves).astype(np.uint8)
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "decoded"),
    [
        (1600, 1200, (200, 150)),  # an eighth has twice the 40 pixels
        (639, 640, (160, 160)),  # an eighth would have 79; a quarter of 639 is rounded up
        (320, 900, (80, 225)),
        (160, 160, (80, 80)),
        (159, 400, (159, 400)),
    ],
)
def test_twice_the_resized_side_remains(width, height, decoded):
    assert DRAFT.decoded(photo(width, height)).size == decoded


def test_a_stretched_image_keeps_twice_the_longer_side_of_the_input():
    stretched = Preprocessing(size=(20, 50), draft=True)
    assert stretched.decoded(photo(400, 800)).size == (100, 200)


def test_a_photo_from_a_phone_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(1600, 1200, exif=exif)
    assert DRAFT.decoded(turned).size == (150, 200)
    difference = DRAFT(turned).astype(int) - WHOLE(turned)
    assert abs(difference).max() <= 4


def test_pixels_change_little():
    content = photo(1203, 901)
    difference = DRAFT(content).astype(int) - WHOLE(content)
    assert abs(difference).max() <= 4  # of slow waves; sharp edges change more
    assert difference.any()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_formats_are_decoded_whole(form):
    content = photo(640, 640, form)
    np.testing.assert_array_equal(DRAFT(content), WHOLE(content))


def test_small_photos_and_decoded_ones_are_unchanged_to_the_bit():
    small = photo(150, 120)
    np.testing.assert_array_equal(DRAFT(small), WHOLE(small))
    large = Image.open(io.BytesIO(photo(640, 640)))
    np.testing.assert_array_equal(DRAFT(large), WHOLE(large))
    assert large.size == (640, 640)


def test_metadata_do_not_hold_it():
    assert DRAFT.to_dict() == WHOLE.to_dict()
    assert not DRAFT.makes_the_pixels_of(WHOLE)


def test_the_wrapper_decodes_at_a_lower_scale_when_it_is_asked_to():
    artifact = builtin.artifacts()[0]
    content = photo(800, 600)
    with vitedge.load(artifact) as whole, vitedge.load(artifact, draft=True) as draft:
        assert not whole.preprocessing.draft
        expected = whole.logits([replace(whole.preprocessing, draft=True)(content)])
        np.testing.assert_array_equal(draft.logits([content]), expected)
        assert (draft.logits([content]) != whole.logits([content])).any()
        (streamed,) = draft.stream([content])
        assert streamed.ranking == draft.classify(content)
