"""``convert --for``: precision and form by target, proved by its compiler or by known limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import target_onnx_graphs as graphs
from tests.support.bench_artifacts import save_openvino
from tests.support.target_artifacts import (
    product_with_itself,
    save_tflite,
    slice_that_drops_an_axis,
    small_artifact,
    small_vit,
)
from vitedge.artifacts.metadata import read_metadata
from vitedge.artifacts.written import Written
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.errors import ConversionError, UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.pipeline import for_targets
from vitedge.pipeline.convert import ConvertOptions
from vitedge.pipeline.device_limits import refusals
from vitedge.pipeline.for_targets import convert_for
from vitedge.pipeline.keras_model import write_keras
from vitedge.rewrite import rewrites
from vitedge.runtimes import fit_of, targets
from vitedge.targets.fits import DeviceLimits
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

ETHOS, GPU, QNN = Target("ethos", "u"), Target("tflite", "gpu"), Target("onnx", "qnn")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "small.keras"
    write_keras(small_vit(), path)
    return path


@pytest.fixture(scope="module")
def calibration() -> ImageSet:
    noise = np.random.default_rng(1).integers(0, 256, (16, 64, 64, 3), np.uint8)
    return ImageSet("noise", ArraySamples(noise, None))


def test_every_target_has_what_it_takes() -> None:
    known = {rewrite.name for rewrite in rewrites()}
    for target in targets():
        fit = fit_of(target)
        assert fit is not None, target
        assert fit.precisions
        assert set(fit.rewrites) <= known


@pytest.mark.thorough
def test_ethos_u_gets_integers_and_a_compiled_form_for_each_generation(
    source: Path, calibration: ImageSet, tmp_path: Path
) -> None:
    written = convert_for(
        source, [ETHOS], ConvertOptions(precisions=(), output=tmp_path), calibration=calibration
    )
    assert [each.path.name for each in written] == [
        "small.int8-static.ethos-u.tflite",
        "small.int8-static.ethos-u55-128.tflite",
        "small.int8-static.ethos-u65-512.tflite",
        "small.int8-static.ethos-u85-256.tflite",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(each.path for each in written)
    for each in written:
        metadata = read_metadata(each.path)
        assert metadata == written[0].metadata
        assert metadata is not None
        assert metadata.parity is not None


def test_a_chip_that_is_named_is_the_only_one_compiled_for(
    source: Path, calibration: ImageSet, tmp_path: Path
) -> None:
    written = convert_for(
        source,
        [ETHOS],
        ConvertOptions(precisions=(), output=tmp_path),
        chips=["u65-512"],
        calibration=calibration,
    )
    assert len(written) == 2
    assert written[1].path.name == "small.int8-static.ethos-u65-512.tflite"


def refuse(monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
    """A compiler that does not take a graph for some chips."""
    compile_it = for_targets._compile

    def compile_or_refuse(made: Written, job: Any, chip: str, folder: Path) -> Written:
        if chip in refused:
            raise for_targets._RefusedError(f"no softmax on {chip}")
        return compile_it(made, job, chip, folder)

    monkeypatch.setattr(for_targets, "_compile", compile_or_refuse)


def test_a_chip_that_nobody_named_may_refuse_if_another_does_not(
    source: Path, calibration: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "u55-128", "u85-256")
    warnings: list[str] = []
    stale = tmp_path / "small.int8-static.ethos-u85-256.tflite"
    stale.touch()
    options = ConvertOptions(precisions=(), output=tmp_path, force=True)
    written = convert_for(source, [ETHOS], options, calibration=calibration, warn=warnings.append)
    assert [each.path.name for each in written] == [
        "small.int8-static.ethos-u.tflite",
        "small.int8-static.ethos-u65-512.tflite",
    ]
    assert warnings == [
        f"not compiled for {chip}: no softmax on {chip}" for chip in ("u55-128", "u85-256")
    ]
    assert not stale.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("chips", [(), ("u55-128",)])
def test_a_target_of_which_every_chip_refuses_gets_nothing(
    chips: tuple[str, ...],
    source: Path,
    calibration: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, "u55-128", "u65-512", "u85-256")
    options = ConvertOptions(precisions=(), output=tmp_path)
    with pytest.raises(ConversionError, match="no softmax on u55-128"):
        convert_for(source, [ETHOS], options, chips=chips, calibration=calibration)
    assert not list(tmp_path.iterdir())


def test_a_gpu_gets_half_precision_and_a_stream_that_half_precision_can_square(
    source: Path, tmp_path: Path
) -> None:
    warnings: list[str] = []
    (written,) = convert_for(
        source,
        [GPU],
        ConvertOptions(precisions=(), output=tmp_path),
        warn=warnings.append,
    )
    assert written.metadata.precision is Precision.FP16
    assert "scale-residual" in written.metadata.rewrites
    assert refusals(written.path, DeviceLimits.TFLITE_DELEGATE) == ()
    for words in warnings:  # where there is no GPU, not even an emulated one
        assert words.startswith("tflite-gpu is not here to be asked")


def test_an_existing_output_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    (tmp_path / "small.fp16.tflite-gpu.tflite").touch()
    with pytest.raises(UsageError, match="--force"):
        convert_for(source, [GPU], ConvertOptions(precisions=(), output=tmp_path))


@dataclass(frozen=True)
class Refused:
    id: str
    target: Target
    precisions: tuple[Precision, ...]
    chips: tuple[str, ...]
    error: type[Exception]
    words: str


REFUSED = [
    Refused(
        "precision", ETHOS, (Precision.FP32,), (), ConversionError, "does not run fp32; it takes"
    ),
    Refused("target", Target("onnx", "abacus"), (), (), UsageError, "unknown target"),
    Refused("chip", QNN, (), ("z80",), UsageError, "there are: sm8550, sm8650"),
    Refused("no chips", GPU, (), ("sm8550",), UsageError, "none of the targets has any"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_what_no_target_takes_is_refused_before_any_work(case: Refused, tmp_path: Path) -> None:
    options = ConvertOptions(precisions=case.precisions, output=tmp_path)
    with pytest.raises(case.error, match=case.words):
        convert_for(tmp_path / "nowhere.keras", [case.target], options, chips=case.chips)


def negated(model: TFLiteModel, pixels: int) -> int:
    return model.operator("NEG", [pixels], (1, 8, 8, 3), name="minus", options=None)


def five_axes(model: TFLiteModel, pixels: int) -> int:
    shape = np.asarray((1, 2, 4, 8, 3), np.int32)
    options = {"table": "ReshapeOptions", "newShape": shape}
    cut = [pixels, model.constant("shape", shape)]
    return model.operator("RESHAPE", cut, (1, 2, 4, 8, 3), name="cut", options=options)


@pytest.mark.parametrize(
    ("emit", "words"),
    [
        (negated, "NEG 'minus': delegates have none"),
        (five_axes, "RESHAPE 'cut': has 5 axes"),
        (slice_that_drops_an_axis, "STRIDED_SLICE 'first_token': drops an axis"),
        (product_with_itself, "BATCH_MATMUL 'gram': has one tensor on both inputs"),
    ],
    ids=["NEG", "rank", "shrink mask", "one tensor twice"],
)
def test_what_delegates_cannot_run_is_found_in_the_file_by_name(
    emit: Callable[[TFLiteModel, int], int], words: str, tmp_path: Path
) -> None:
    found = refusals(save_tflite(tmp_path / "a.tflite", emit), DeviceLimits.TFLITE_DELEGATE)
    assert len(found) == 1
    assert words in found[0]


def test_a_format_of_which_nothing_is_known_is_refused_and_not_parsed_as_another(
    tmp_path: Path,
) -> None:
    artifact = save_openvino(tmp_path / "model.xml")
    assert refusals(artifact, DeviceLimits.NONE) == ()
    for limits in set(DeviceLimits) - {DeviceLimits.NONE}:
        with pytest.raises(UsageError, match=f"what {limits} devices run of openvino files"):
            refusals(artifact, limits)


def test_what_the_htp_cannot_run_is_found_in_the_file_by_name(tmp_path: Path) -> None:
    erf = graphs.save_graph(tmp_path / "erf.onnx", graphs.ERROR_FUNCTION)
    assert refusals(erf, DeviceLimits.HTP) == (
        "Erf 'logits': stays on the CPU and splits the graph; use Gelu",
    )
    dynamic = small_artifact(tmp_path, Format.ONNX, Precision.INT8)
    assert any(
        "DynamicQuantizeLinear 'blocks." in each for each in refusals(dynamic, DeviceLimits.HTP)
    )


@pytest.mark.parametrize(
    ("target", "precision", "limits"),
    [
        (Format.TFLITE, Precision.FP16, DeviceLimits.TFLITE_DELEGATE),
        (Format.TFLITE, Precision.INT8_STATIC, DeviceLimits.ALL_INTEGER),
        (Format.ONNX, Precision.FP16, DeviceLimits.HTP),
        (Format.ONNX, Precision.INT8_STATIC, DeviceLimits.HTP),
        (Format.ONNX, Precision.W8A16, DeviceLimits.HTP),
    ],
    ids=str,
)
def test_our_own_artefacts_keep_within_the_limits(
    target: Format, precision: Precision, limits: DeviceLimits, tmp_path: Path
) -> None:
    assert refusals(small_artifact(tmp_path, target, precision), limits) == ()


def test_floats_are_found_where_all_must_be_integers(tmp_path: Path) -> None:
    found = refusals(
        small_artifact(tmp_path, Format.TFLITE, Precision.FP32), DeviceLimits.ALL_INTEGER
    )
    assert len(found) >= 60
    assert "CONV_2D 'patch': reads or writes float 'pixels'" in found
