"""Models that are too large for one file of their format; the limits are lowered, not the models
raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Metadata, Source, files_of, read_metadata, size_of
from vitedge.converters.onnx import file as onnx_file
from vitedge.converters.onnx.file import write_onnx
from vitedge.converters.tflite import model as tflite_model
from vitedge.converters.tools import converter_for
from vitedge.errors import ConversionError
from vitedge.network.evaluate import forward
from vitedge.network.network import Network
from vitedge.pipeline.verified_write import Reference, write_checked
from vitedge.quantize import Recipe
from vitedge.rewrite import apply_rewrites
from vitedge.runtimes import run_batches, runtimes
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

LIMIT = 1 << 14


def draft_of(network: Network, target: Format) -> object:
    rewritten, _ = apply_rewrites(network)
    return converter_for(target, Precision.FP32).convert(rewritten, Recipe(Precision.FP32))


def metadata_of(network: Network, target: Format) -> Metadata:
    source = Source("model.keras", "0" * 64, "by name: test")
    return Metadata(target, Precision.FP32, network.labels, network.preprocessing, source)


def logits_of(path: Path, pixels: np.ndarray) -> np.ndarray:
    runtime = next(each for each in runtimes() if each.format is Format.ONNX)
    session = runtime.open(path, "cpu", threads=1)
    try:
        return run_batches(session, pixels)
    finally:
        session.close()


def test_an_onnx_model_over_the_limit_has_its_weights_beside_it(tmp_path: Path) -> None:
    network = random_network()
    pixels = random_images(network, 3)
    metadata = metadata_of(network, Format.ONNX)
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    model = draft_of(network, Format.ONNX).model
    write_onnx(model, small, metadata)
    write_onnx(model, large, metadata, limit=LIMIT)
    assert [path.name for path in files_of(small)] == ["small.onnx"]
    assert [path.name for path in files_of(large)] == ["large.onnx", "large.onnx.data"]
    assert large.stat().st_size < small.stat().st_size / 2
    assert size_of(large) >= size_of(small)
    assert read_metadata(large) == metadata
    np.testing.assert_array_equal(logits_of(large, pixels), logits_of(small, pixels))


def test_weights_beside_a_model_are_published_with_it_and_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = random_network()
    pixels = random_images(network, 3)
    reference = Reference(pixels, forward(network, pixels))
    path = tmp_path / "model.fp32.onnx"
    draft, metadata = draft_of(network, Format.ONNX), metadata_of(network, Format.ONNX)
    with monkeypatch.context() as lowered:
        lowered.setitem(onnx_file.write_onnx.__kwdefaults__, "limit", LIMIT)
        write_checked(draft, path, metadata, reference)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, f"{path.name}.data"}
    np.testing.assert_allclose(logits_of(path, pixels), reference.outputs, atol=1e-4)
    write_checked(draft, path, metadata, reference)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_tflite_file_over_its_limit_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = random_network()
    monkeypatch.setattr(tflite_model, "MAX_BYTES", LIMIT)
    with pytest.raises(ConversionError, match=r"2 GiB.*--fp16 or --int8.*onnx or openvino"):
        draft_of(network, Format.TFLITE).save(
            tmp_path / "model.tflite", metadata_of(network, Format.TFLITE)
        )
    assert not list(tmp_path.iterdir())
