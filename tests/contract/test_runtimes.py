"""What every runtime promises, on every device that is here: load, run, tell, close, refuse.

A device that is not here must say so with a remedy; how devices behave that only some machines
have is tested in ``tests/e2e/targets``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.support.target_artifacts import small_artifact, small_images, small_vit
from vitedge.bench.candidates import probe
from vitedge.errors import ModelError, PlacementError, UnavailableError
from vitedge.inspection.inner_tensors import intermediates
from vitedge.network.evaluate import forward
from vitedge.rewrite import apply_rewrites
from vitedge.runtimes import (
    AheadOfTime,
    Availability,
    EstimatedSession,
    FeatureSession,
    Readiness,
    Runtime,
    Session,
    fit_of,
    run_batches,
    runtime_for,
    runtimes,
    targets,
)
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

ON_EVERY_TARGET = pytest.mark.parametrize("target", targets(), ids=str)


@cache
def state_of(target: Target) -> Availability:
    return probe(target, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtimes")


def best_precision(target: Target) -> Precision:
    fit = fit_of(target)
    assert fit is not None
    return fit.precisions[0]


def artifact_for(target: Target, folder: Path) -> Path:
    """An artefact in the precision that fits the target best; skips where its device is not."""
    state = state_of(target)
    if state.readiness == Readiness.MISSING:
        pytest.skip(f"{target} is not here: {state.detail}")
    known, precision = runtime_for(target).format, best_precision(target)
    path = folder / f"small.{precision}{known.suffix}"
    return path if path.exists() else small_artifact(folder, known, precision)


def opened(target: Target, folder: Path) -> Session:
    path = artifact_for(target, folder)
    return runtime_for(target).open(path, target.device, threads=1)


@ON_EVERY_TARGET
def test_what_is_not_here_is_refused_with_the_reason_and_the_remedy(target: Target) -> None:
    state = state_of(target)
    assert state.detail
    if state.readiness != Readiness.MISSING:
        return
    assert state.remedy
    with pytest.raises(UnavailableError) as caught:
        runtime_for(target).open(Path("model"), target.device)
    assert caught.value.remedy == state.remedy
    assert state.detail in caught.value.what


@ON_EVERY_TARGET
def test_it_computes_the_logits_of_the_network_from_bytes_and_floats_alike(
    target: Target, folder: Path
) -> None:
    session = opened(target, folder)
    tolerance = best_precision(target).row.tolerance
    try:
        assert session.input_shape == (1, 64, 64, 3)
        pixels = np.stack([sample.image for sample in small_images().samples])
        kept = pixels.copy()
        logits = run_batches(session, pixels)
        first = session.run(pixels[:1])
        before = first.copy()
        other = session.run(pixels[1:2].astype(np.float32))
    finally:
        session.close()
    np.testing.assert_array_equal(pixels, kept)
    np.testing.assert_array_equal(first, before, "the logits of one run are the caller's to keep")
    np.testing.assert_array_equal(np.concatenate([first, other]), logits[:2])
    expected = forward(small_vit(), pixels)
    assert logits.dtype == np.float32
    noise = float(np.square(logits - expected).mean())
    assert 10 * np.log10(float(np.square(expected).mean()) / noise) >= tolerance.drift_db


@ON_EVERY_TARGET
def test_it_tells_where_the_nodes_run_and_what_else_it_knows(target: Target, folder: Path) -> None:
    session = opened(target, folder)
    try:
        placement = session.placement()
        if placement is not None:
            assert 0 < placement.on_device <= placement.total
        if isinstance(session, EstimatedSession):
            assert session.estimate()
        if isinstance(session, FeatureSession):
            with pytest.raises(ModelError, match="--features"):  # it was converted without
                session.features(np.zeros(session.input_shape, np.uint8))
    finally:
        session.close()


@ON_EVERY_TARGET
def test_it_may_be_closed_twice_and_opened_again(target: Target, folder: Path) -> None:
    pixels = small_images(1).samples[0].image[None]
    logits = []
    for _ in range(2):
        session = opened(target, folder)
        logits.append(session.run(pixels))
        session.close()
        session.close()
    np.testing.assert_array_equal(*logits)


@ON_EVERY_TARGET
@pytest.mark.parametrize("content", [None, b"", b"no model at all", "half"], ids=repr)
def test_a_bad_file_is_one_error_of_ours(
    target: Target, content: bytes | str | None, folder: Path, tmp_path: Path
) -> None:
    whole = artifact_for(target, folder)
    path = tmp_path / whole.name
    if content is not None:
        half = whole.read_bytes()[: whole.stat().st_size // 2]
        path.write_bytes(content if isinstance(content, bytes) else half)
    with pytest.raises((ModelError, PlacementError)) as caught:
        runtime_for(target).open(path, target.device, threads=1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("known", all_formats(), ids=str)
def test_the_inner_tensors_of_a_format_are_those_that_its_runtime_computes(
    known: Format, folder: Path
) -> None:
    target = known.default_target
    path = small_artifact(folder, known, Precision.FP32)
    pixels = np.stack([sample.image for sample in small_images(2).samples])
    network, _ = apply_rewrites(small_vit())
    last = network.logits.name
    found = intermediates(path, {last, "no such tensor"}, pixels)
    assert set(found) == {last}
    session = runtime_for(target).open(path, target.device, threads=1)
    try:
        logits = run_batches(session, pixels)
    finally:
        session.close()
    # The same kernels; a tensor that is looked at may be fused otherwise.
    np.testing.assert_allclose(found[last].reshape(logits.shape), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("runtime", runtimes(), ids=lambda runtime: runtime.name)
def test_a_runtime_names_each_device_once_and_what_is_compiled_for_it(runtime: Runtime) -> None:
    assert len(set(runtime.devices)) == len(runtime.devices)
    if isinstance(runtime, AheadOfTime):
        assert any(runtime.compiled_forms(device) for device in runtime.devices)


@pytest.mark.parametrize("known", all_formats(), ids=str)
def test_the_default_target_of_a_format_is_a_cpu_that_reads_it(known: Format) -> None:
    assert known.default_target.device == "cpu"
    assert runtime_for(known.default_target).format is known
