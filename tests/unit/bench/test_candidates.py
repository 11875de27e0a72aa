"""Targets are asked whether they can run here, in as few processes as their drivers allow."""

from __future__ import annotations

import pytest

from tests.support.bench_fakes import FakeRuntime
from tests.support.bench_fixtures import fake_runtime
from vitedge.bench import candidates
from vitedge.bench.process import WorkerProcess
from vitedge.errors import UsageError
from vitedge.runtimes import Readiness
from vitedge.targets.target import Target

__all__ = ["fake_runtime"]


def test_a_driver_that_crashes_is_missing_and_the_others_of_its_runtime_are_not(
    fake_runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[WorkerProcess] = []

    def start(timeout_seconds: float) -> WorkerProcess:
        started.append(WorkerProcess(timeout_seconds))
        return started[-1]

    monkeypatch.setattr(candidates, "WorkerProcess", start)
    asked = [
        Target("fake", "good"),
        Target("onnx", "cpu"),
        Target("fake", "fragile"),
        Target("fake", "emulated"),
    ]
    found = candidates.probe_all(asked, 60)
    assert list(found) == asked
    assert [state.readiness for state in found.values()] == [
        Readiness.READY,
        Readiness.READY,
        Readiness.MISSING,
        Readiness.EMULATED,
    ]
    assert "SIGABRT" in found[Target("fake", "fragile")].detail
    assert len(started) == 3  # one more for what comes after the crash


def test_a_target_that_no_runtime_knows_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="lukewarm"):
        candidates.probe_all([Target("onnx", "cpu"), Target("onnx", "lukewarm")], 60)
