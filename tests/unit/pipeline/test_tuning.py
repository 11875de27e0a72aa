"""``convert --tune`` keeps the faster graph, and never a less accurate one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.models import random_network
from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.cli import main
from vitedge.pipeline import tuning
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.tuning import USUAL, Variant, fastest, variants
from vitedge.pipeline.verified_write import Reference
from vitedge.quantize import Activations
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions

OTHER = Variant("other")


@dataclass
class Timed:
    """A session that takes a while; 15-line fake at the one seam that has a clock."""

    seconds: float
    error: float
    input_shape: tuple[int, ...] = (1, 2, 2, 3)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        logits = pixels.reshape(len(pixels), -1)[:, :10].astype(np.float32)
        return logits + np.float32(self.error)

    def close(self) -> None:
        pass


class Nothing:
    def save(self, path: Path, metadata: Metadata) -> None:
        path.touch()


def tuned(monkeypatch: pytest.MonkeyPatch, usual: Timed, other: Timed) -> tuple[Variant, str]:
    sessions = iter((usual, other))

    class Runtime:
        def open(self, path: Path, device: str) -> Any:
            return next(sessions)

    monkeypatch.setattr(tuning, "runtime_for", lambda _target: Runtime())
    network = random_network()
    metadata = Metadata(
        format=Format.ONNX,
        precision=Precision.FP32,
        labels=(),
        preprocessing=network.preprocessing,
        source=None,  # type: ignore[arg-type]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3), np.uint8)
    reference = Reference(pixels, pixels.reshape(4, -1)[:, :10].astype(np.float32))
    found = fastest([(USUAL, Nothing(), metadata), (OTHER, Nothing(), metadata)], reference)
    return found.variant, found.words


def test_the_faster_graph_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    variant, words = tuned(monkeypatch, Timed(0.02, 0.1), Timed(0.001, 0.1))
    assert variant is OTHER
    assert words.startswith("kept other (other: 0.")


def test_the_usual_graph_is_kept_when_the_other_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuned(monkeypatch, Timed(0.001, 0.1), Timed(0.02, 0.1))[0] is USUAL


def test_a_faster_graph_that_is_less_accurate_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    variant, words = tuned(monkeypatch, Timed(0.02, 0.1), Timed(0.001, 5.0))
    assert variant is USUAL
    assert "less accurate" in words


def test_what_is_tried_begins_with_the_usual_graph() -> None:
    for target in all_formats():
        for precision in all_precisions():
            first, *others = variants(target, precision)
            assert first is USUAL
            assert not (precision.all_integer and others)
    found = variants(Format.OPENVINO, Precision.INT8)
    assert Activations.PER_TOKEN in [each.activations for each in found]


def test_a_tuned_artefact_says_what_was_timed(tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    write_keras(random_network(), model)
    arguments = ["convert", "--int8", "--tune", "-o", str(tmp_path), str(model)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for target in all_formats():
        metadata = read_metadata(tmp_path / f"model.int8{target.suffix}")
        assert metadata is not None
        assert metadata.quantization["tuned"].startswith("kept ")
        other = "LayerNorm" if target is Format.TFLITE else "RMSNorm on a centred stream"
        assert f"{other}: " in metadata.quantization["tuned"]
