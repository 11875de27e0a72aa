"""Whether a bench is told that its images made the artefact that it measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_network
from vitedge.artifacts.metadata import read_metadata, sha256_of
from vitedge.bench.overlap import overlaps
from vitedge.images.image_digests import KEPT, shared_with, smallest_digests
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.images.seen_images import record_seen, seen_by
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format


def numbered(*numbers: int, network: Network | None = None) -> ImageSet:
    """Images that differ by their number."""
    size = (8, 8) if network is None else network.preprocessing.size
    pixels = np.zeros((len(numbers), *size, 3), np.uint8)
    pixels[:, 0, 0, :2] = [divmod(number, 256) for number in numbers]
    return ImageSet("photos", ArraySamples(pixels, None))


def test_what_small_sets_share_is_known_of_every_image():
    found = shared_with(numbered(3, 4, 5, 6), smallest_digests(numbered(1, 2, 3, 5)))
    assert found.names == ("image 0", "image 2")
    assert found.looked_at == 4


def test_what_large_sets_share_is_known_of_a_sample():
    digests = smallest_digests(numbered(*range(2000)))
    assert len(digests) == KEPT
    # Half of these are in the other set, and about an eighth of them can be told.
    found = shared_with(numbered(*range(1000, 3000)), digests)
    assert 200 < found.looked_at < 312  # 256 expected, five deviations of a binomial
    assert 0.35 < len(found.names) / found.looked_at < 0.65
    assert not shared_with(numbered(*range(2000, 4000)), digests).names


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network()


@pytest.fixture(scope="module")
def artifact(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of ``model.keras``, calibrated on images 0 to 3, in a folder of its own."""
    folder = tmp_path_factory.mktemp("seen")
    write_keras(network, folder / "model.keras")
    options = ConvertOptions(formats=(Format.ONNX,), output=folder / "made")
    calibration = numbered(0, 1, 2, 3, network=network)
    (written,) = convert(folder / "model.keras", options, calibration=calibration)
    return written.path


def test_images_that_were_calibrated_on_are_named(artifact: Path, network: Network):
    first, *_ = overlaps([artifact], numbered(2, 9, 3, network=network), [])
    assert first == (
        "'model.int8.onnx' was calibrated on 2 of the 3 images of 'photos' ('image 0', 'image 2'): "
        "accuracy on them is too high; measure on other images"
    )


def test_what_is_not_recorded_is_said_not_to_be_known(artifact: Path, network: Network):
    (words,) = overlaps([artifact], numbered(8, 9, network=network), [artifact.parent])
    assert words.startswith("whether 'model.keras' learnt from images of 'photos' is not known")


def test_images_that_were_trained_on_are_told_by_the_runs_folder(
    artifact: Path, network: Network, tmp_path: Path
):
    model = artifact.parent.parent / "model.keras"
    learnt, held_out = (numbered(*some, network=network) for some in ((10, 11), (12, 13)))
    record_seen(tmp_path / "model.run", sha256_of(model), learnt, held_out)
    words = list(overlaps([artifact], numbered(11, 12, 14, network=network), [tmp_path]))
    assert len(words) == 2
    assert words[0].startswith("'model.keras' has learnt from 1 of the 3 images of 'photos' ('im")
    assert words[1].startswith("'model.keras' was chosen by 1 of the 3 images")
    assert not list(overlaps([artifact], numbered(20, network=network), [tmp_path]))


def test_an_older_artefact_is_said_not_to_record_its_images(artifact: Path):
    metadata = read_metadata(artifact)
    assert metadata is not None
    assert metadata.calibration is not None
    text = replace(metadata, calibration=replace(metadata.calibration, images=())).to_json()
    old = type(metadata).from_json(text.replace(',"images":[]', ""))
    assert old.calibration is not None
    assert old.calibration.images == ()


def test_a_garbled_record_says_nothing(tmp_path: Path):
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "images.json").write_text('{"model_sha256": 3}')
    assert seen_by("3", [tmp_path]) is None
