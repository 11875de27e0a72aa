"""What is made sure of before an artefact is published."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from vitedge.errors import ParityError
from vitedge.pipeline import verified_write
from vitedge.targets.formats import Format


@dataclass
class Forgetful:
    """A session whose answers change after so many runs; also a runtime that opens it."""

    right: int
    input_shape: tuple[int, ...] = (2, 4, 4, 3)
    runs: int = field(default=0)

    def open(self, path: Path, device: str) -> Forgetful:
        return self

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.runs += 1
        sums = pixels.reshape(len(pixels), -1)[:, :5].astype(np.float32)
        return sums if self.runs <= self.right else 0.9 * sums

    def close(self) -> None:
        pass


def outputs(session: Forgetful, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(verified_write, "runtime_for", lambda _: session)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    return verified_write._outputs(Path("model.xml"), Format.OPENVINO, pixels)


def test_a_runtime_that_is_wrong_from_the_second_time_on_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ParityError, match=r"model\.xml gives other outputs the second time"):
        outputs(Forgetful(right=1), monkeypatch)


def test_a_runtime_that_stays_the_same_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Forgetful(right=9)
    assert outputs(session, monkeypatch).shape == (2, 5)
    assert session.runs == 2
