"""Blocks of DeiT-tiny with their real weights, and real photos, on emulated devices."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.support.target_fixtures import bench_there, htp_emulator, software_vulkan
from vitedge.bench.reference import ArtifactReference
from vitedge.bench.request import selected
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.importers import ImportOptions
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.report.results import Status
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["htp_emulator", "software_vulkan"]

pytestmark = pytest.mark.slow

# An emulated GPU takes two seconds for a whole DeiT-tiny, an emulated HTP ten to forty.
BLOCKS = 4
GPU_PHOTOS, HTP_PHOTOS, CALIBRATION_PHOTOS = 2, 1, 16

# The GPU adds nothing to what the precision costs on a CPU: 108, 59 and 30 dB on 500 photos.
LEAST_SQNR_DB = {Precision.FP32: 80.0, Precision.FP16: 40.0, Precision.INT8: 15.0}

# 20 dB of the whole model on 500 photos.
LEAST_SQNR_DB_OF_INTEGERS = 17.0

# 59 and 30 dB on the CPU. A bias that the HTP's compiler gets wrong by 6 % makes 17 of the latter.
LEAST_SQNR_DB_ON_THE_HTP = {Precision.FP16: 30.0, Precision.W8A16: 23.0}


def deit_artifacts(
    shared_data: Path, folder: Path, target: Format, *precisions: Precision
) -> dict[Precision, Path]:
    name = "deit_tiny_patch16_224.safetensors"
    weights = load_file(shared_data / "deit_tiny" / name)
    later = tuple(f"blocks.{index}." for index in range(BLOCKS, 12))
    kept = {key: value for key, value in weights.items() if not key.startswith(later)}
    save_file(kept, folder / name)
    written = convert(
        folder / name,
        ConvertOptions((target,), precisions, folder, importing=ImportOptions(labels=LABELS)),
        calibration=photos(shared_data, "calibration", CALIBRATION_PHOTOS),
    )
    return {each.metadata.precision: each.path for each in written}


LABELS = tuple(str(index) for index in range(1000))


def photos(shared_data: Path, name: str, count: int) -> ImageSet:
    return selected(open_images(shared_data / "imagenet_photos" / name, LABELS), count)


def test_blocks_of_deit_tiny_agree_about_photos_on_an_emulated_gpu(
    shared_data: Path, software_vulkan: Path, tmp_path: Path
) -> None:
    artifacts = deit_artifacts(shared_data, tmp_path, Format.TFLITE, *LEAST_SQNR_DB)
    report = run_bench(
        list(artifacts.values()),
        [Target("tflite", "gpu")],
        data=photos(shared_data, "validation", GPU_PHOTOS),
        reference=ArtifactReference(artifacts[Precision.FP32], Target("tflite", "cpu")),
        options=BenchOptions(threads=2, runs=1),
    )
    for row in report.rows:
        assert row.status is Status.OK, row.message
        assert row.emulated
        assert row.latency_ms is None
        assert row.placement is not None
        assert row.placement.on_device == row.placement.total > 100
        assert row.vs_float is not None
        assert row.vs_float.sqnr_db is not None
        assert row.precision is not None
        assert row.vs_float.sqnr_db >= LEAST_SQNR_DB[row.precision]


def test_blocks_of_deit_tiny_agree_on_an_emulated_htp(
    shared_data: Path, htp_emulator: Path, tmp_path: Path
) -> None:
    artifacts = deit_artifacts(
        shared_data, tmp_path, Format.ONNX, Precision.FP32, *LEAST_SQNR_DB_ON_THE_HTP
    )
    images = tmp_path / "photos"
    images.mkdir()
    for sample in photos(shared_data, "validation", HTP_PHOTOS).samples:
        (images / Path(sample.name).name).symlink_to(sample.image)
    for precision, least in LEAST_SQNR_DB_ON_THE_HTP.items():
        row = bench_there(
            htp_emulator,
            artifacts[precision],
            "onnx-qnn",
            *("--data", images, "--reference", artifacts[Precision.FP32]),
        )
        assert row["status"] == "OK", row["message"]
        assert row["emulated"]
        assert row["placement"]["on_device"] == row["placement"]["total"] > 70
        assert row["vs_float"]["sqnr_db"] >= least, precision


def test_blocks_of_deit_tiny_in_integers_leave_nothing_to_the_cpu_beside_an_ethos_u(
    shared_data: Path, tmp_path: Path
) -> None:
    artifacts = deit_artifacts(
        shared_data, tmp_path, Format.TFLITE, Precision.FP32, Precision.INT8_STATIC
    )
    (row,) = run_bench(
        [artifacts[Precision.INT8_STATIC]],
        [Target("ethos", "u")],
        data=photos(shared_data, "validation", CALIBRATION_PHOTOS),
        reference=ArtifactReference(artifacts[Precision.FP32], Target("tflite", "cpu")),
        options=BenchOptions(threads=2, runs=1),
    ).rows
    assert row.status is Status.OK, row.message
    assert row.placement is not None
    assert row.placement.on_device == row.placement.total > 170
    assert "ms on Ethos-u85-256" in row.message
    assert row.vs_float is not None
    assert row.vs_float.sqnr_db is not None
    assert row.vs_float.sqnr_db >= LEAST_SQNR_DB_OF_INTEGERS
