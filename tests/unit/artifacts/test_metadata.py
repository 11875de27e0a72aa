"""Metadata of artefacts: what goes in comes out, and garbage is one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitedge.artifacts.metadata import (
    Metadata,
    Parity,
    Source,
    files_of,
    format_of,
    read_metadata,
    sha256_of,
    size_of,
)
from vitedge.bench import builtin
from vitedge.errors import ModelError, UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import all_precisions

ARTIFACTS = builtin.artifacts()

finite = st.floats(allow_nan=False, allow_infinity=False)

metadata = st.builds(
    Metadata,
    format=st.sampled_from(all_formats()),
    precision=st.sampled_from(all_precisions()),
    labels=st.lists(st.text(), max_size=5).map(tuple),
    preprocessing=st.builds(
        Preprocessing,
        size=st.tuples(st.integers(1, 512), st.integers(1, 512)),
        channels=st.just(1),
        resize=st.none() | st.integers(512, 600),
        interpolation=st.sampled_from(Interpolation),
        mean=st.tuples(finite),
        std=st.tuples(st.floats(1e-3, 10)),
    ),
    source=st.builds(Source, st.text(), st.text(), st.text()),
    rewrites=st.lists(st.text(), max_size=3).map(tuple),
    quantization=st.dictionaries(st.text(), st.text(), max_size=3),
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
    parity=st.none() | st.builds(Parity, st.integers(0, 9), finite, finite, finite, finite),
)


@given(metadata)
def test_metadata_survives_its_json(given_metadata: Metadata) -> None:
    assert Metadata.from_json(given_metadata.to_json()) == given_metadata


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.suffix)
def test_a_real_artefact_names_its_digits(path: Path) -> None:
    found = read_metadata(path)
    assert found is not None
    assert found.labels == tuple("0123456789")
    assert found.parity is not None
    assert size_of(path) == sum(part.stat().st_size for part in files_of(path))


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.suffix)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_truncated_artefact_is_one_clear_error_or_has_its_metadata(
    path: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    cut = tmp_path / path.name
    cut.write_bytes(whole[:length])
    cut.with_suffix(".bin").write_bytes(b"")
    try:
        found = read_metadata(cut)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        # ONNX's metadata may end before the cut, or begin behind it.
        assert found in (None, read_metadata(path))


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.suffix)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_flipped_byte_never_raises_anything_but_a_model_error(
    path: Path, tmp_path: Path, at: float, value: int
) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] = value
    flipped = tmp_path / path.name
    flipped.write_bytes(content)
    flipped.with_suffix(".bin").write_bytes(b"")
    try:
        read_metadata(flipped)
    except ModelError as error:
        assert str(flipped) in str(error)


@pytest.mark.parametrize("suffix", [known.suffix for known in all_formats()])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"hello", b"\0" * 100, b"\xff" * 100, struct.pack("<I", 2**31) + b"TFL3" + b"x"],
    ids=["empty", "one byte", "text", "zeros", "ones", "wild offset"],
)
def test_garbage_is_a_model_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    try:
        assert read_metadata(path) is None
    except ModelError as error:
        assert str(path) in str(error)


def test_an_openvino_file_without_its_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("<net/>")
    with pytest.raises(ModelError, match=r"model\.bin"):
        read_metadata(path)


def test_an_unknown_extension_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"\.tflite, \.onnx, \.xml"):
        format_of(Path("model.h5"))


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of(tmp_path) != first


def test_parity_of_equal_logits_has_no_noise() -> None:
    logits = np.asarray([[1.0, 2.0], [3.0, 1.0]], np.float32)
    assert Parity.of(logits, logits) == Parity(2, 0.0, 0.0, 1.0, None)


def test_parity_measures_noise_against_the_reference() -> None:
    reference = np.asarray([[10.0, 0.0], [0.0, 10.0]], np.float32)
    parity = Parity.of(reference + np.float32(1), reference)
    # Signal 200, noise 4: 17 dB; the range of the logits is 10.
    assert parity.sqnr_db == pytest.approx(16.99, abs=0.01)
    assert parity.relative_difference == pytest.approx(0.1)
    assert parity.agreement == 1.0


def test_nan_is_infinitely_far() -> None:
    reference = np.asarray([[1.0, 2.0]], np.float32)
    parity = Parity.of(np.asarray([[np.nan, 2.0]], np.float32), reference)
    assert parity.relative_difference == np.inf
