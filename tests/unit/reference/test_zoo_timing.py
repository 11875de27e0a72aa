"""How the zoo times one artefact beside another."""

from __future__ import annotations

import time
from typing import cast

import numpy as np
import pytest

from reference.zoo import timing
from vitedge.runtimes import Session

PIXELS = np.zeros((1, 2, 2, 3), np.uint8)


class Processor:
    """Seconds of a processor that loses its caches before every fifth inference."""

    def __init__(self) -> None:
        self.seconds, self._runs = 0.0, 0

    def compute(self, seconds: float) -> None:
        """One inference, which takes twice as long without caches, and less each time."""
        self.seconds += seconds * (2 - 0.2 * (self._runs % 5))
        self._runs += 1


class Artefact:
    """A session that takes known seconds."""

    def __init__(self, processor: Processor, seconds: float) -> None:
        self._processor, self._seconds = processor, seconds
        self.is_closed = False

    def run(self, pixels: np.ndarray) -> None:
        """One inference."""
        self._processor.compute(self._seconds)

    def close(self) -> None:
        """Ends the session."""
        self.is_closed = True


@pytest.mark.parametrize(("ours", "theirs"), [(1.0, 1.0), (1.0, 2.0), (3.0, 2.0)])
def test_caches_that_are_lost_now_and_then_favour_neither_artefact(
    monkeypatch: pytest.MonkeyPatch, ours: float, theirs: float
) -> None:
    processor = Processor()
    monkeypatch.setattr(time, "process_time", lambda: processor.seconds)
    both = Artefact(processor, ours), Artefact(processor, theirs)
    ratio = timing.latency_ratio(cast(Session, both[0]), cast(Session, both[1]), PIXELS)
    assert ratio == pytest.approx(ours / theirs)
    assert all(each.is_closed for each in both)
