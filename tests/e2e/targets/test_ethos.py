"""ethos-u: what Vela compiles, refuses and estimates, with the logits of TFLite's own kernels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.target_artifacts import bench_one, bench_small, small_artifact
from vitedge.artifacts.metadata import read_metadata
from vitedge.errors import PlacementError
from vitedge.inspection.operators import read_operators
from vitedge.report.results import Status
from vitedge.runtimes.ethos_u import PLUGIN as ETHOS_U
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

CHIPS = ("u55-128", "u65-512", "u85-256")


@pytest.fixture(scope="module")
def all_integer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_artifact(tmp_path_factory.mktemp("ethos"), Format.TFLITE, Precision.INT8_STATIC)


def test_an_all_integer_vit_leaves_no_operator_to_the_cpu_on_any_generation(
    all_integer: Path,
) -> None:
    row = bench_small(all_integer, "ethos-u")
    assert row.status is Status.OK, row.message
    assert row.placement is not None
    assert row.placement.on_device == row.placement.total >= 100
    assert row.vs_float is not None
    assert row.vs_float.sqnr_db is not None
    assert row.vs_float.sqnr_db >= 15


def test_an_estimate_is_velas_word_and_never_a_latency(all_integer: Path) -> None:
    row = bench_one(all_integer, "ethos-u")
    assert row.emulated
    assert row.latency_ms is None
    assert row.samples_ms == ()
    for chip in CHIPS:
        found = re.search(rf"([\d.]+) ms on Ethos-{chip}", row.message)
        assert found, row.message
        assert float(found[1]) > 0
    assert "Vela estimates" in row.message
    assert "nothing was measured" in row.message


@pytest.mark.parametrize("chip", CHIPS)
def test_what_vela_compiles_is_an_artefact_with_its_metadata(
    chip: str, all_integer: Path, tmp_path: Path
) -> None:
    compiled = tmp_path / "small.tflite"
    ETHOS_U.compile(all_integer, "u", chip, compiled)
    assert read_metadata(compiled) == read_metadata(all_integer)
    (operator,) = read_operators(compiled)
    assert operator.name.startswith("CUSTOM")
    elsewhere = bench_one(compiled, "tflite-cpu")
    assert elsewhere.status is Status.ERROR
    assert "ethos-u" in elsewhere.message


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=str)
def test_floats_that_vela_leaves_to_the_cpu_are_a_fallback_with_their_names(
    precision: Precision, tmp_path: Path
) -> None:
    artifact = small_artifact(tmp_path, Format.TFLITE, precision)
    row = bench_one(artifact, "ethos-u")
    assert row.status is Status.FALLBACK
    count = re.search(r"(\d+) of (\d+) operators of", row.message)
    assert count
    assert count[1] == count[2]  # Vela itself exits with 0 and says 0 ms
    assert "unsupported DataType Float32" in row.message
    compiled = tmp_path / "compiled.tflite"
    with pytest.raises(PlacementError):
        ETHOS_U.compile(artifact, "u", "u55-128", compiled)
    assert not compiled.exists()


def test_products_of_16_bits_are_left_to_the_cpu_by_name(tmp_path: Path) -> None:
    row = bench_one(small_artifact(tmp_path, Format.TFLITE, Precision.W8A16), "ethos-u")
    assert row.status is Status.FALLBACK
    assert "BATCH_MATMUL 'blocks." in row.message
