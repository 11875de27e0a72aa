"""Installs the fake runtimes for a test and for the worker processes it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import bench_fakes
from vitedge.runtimes import runtimes


@pytest.fixture
def fake_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[bench_fakes.FakeRuntime]:
    """The runtime ``fake`` with every device."""
    with_entry_point(tmp_path / "installed", "PLUGIN", monkeypatch)
    yield bench_fakes.PLUGIN
    runtimes.cache_clear()


@pytest.fixture
def few_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[bench_fakes.FakeRuntime]:
    """The runtime ``few``: one ready device, one emulated, one missing, one that crashes."""
    with_entry_point(tmp_path / "installed", "FEW", monkeypatch)
    yield bench_fakes.FEW
    runtimes.cache_clear()


@pytest.fixture
def another_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[bench_fakes.FakeRuntime]:
    """The runtime ``another``, which reads ONNX on the CPU as ONNX Runtime does."""
    with_entry_point(tmp_path / "installed", "ANOTHER", monkeypatch)
    yield bench_fakes.ANOTHER
    runtimes.cache_clear()


def with_entry_point(folder: Path, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = f"[vitedge.runtimes]\nfake = tests.support.bench_fakes:{runtime}\n"
    with_entry_points(folder, points, monkeypatch)


def with_entry_points(folder: Path, points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs entry points, for this process and for those that it starts."""
    info = folder / "vitedge_bench_fakes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vitedge-bench-fakes\nVersion: 1\n")
    (info / "entry_points.txt").write_text(points)
    checkout = str(Path(__file__).parents[2])
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), checkout]))
    runtimes.cache_clear()
