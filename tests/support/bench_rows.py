"""Report rows for tests of what renders them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vitedge.bench.spread import summarize
from vitedge.machine.environment import Environment
from vitedge.report.quality import Accuracy, Difference, Preparation, VsFloat
from vitedge.report.results import (
    DataUsed,
    LayerError,
    LayerErrors,
    Ratio,
    Report,
    Row,
    Status,
    Throughput,
    Window,
)
from vitedge.runtimes import Placement
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

ENVIRONMENT = Environment(
    cpu="A CPU <with> brackets",
    machine="x86_64",
    cores=4,
    physical_cores=2,
    threads=2,
    governor="",
    max_frequency_mhz=None,
    temperature_c=None,
    memory_mb=16000.0,
    load_before=0.1,
    os="Debian",
    python="3.11.9",
    versions={"vitedge": "0.1.0", "numpy": "2.0"},
    started="2026-11-23T07:00:00+00:00",
)

FLIP = Difference("n01440764/<b>fish</b>.jpg", "tench", "goldfish", "tench", 1.25)


def make_row(median_ms: float = 10.0, **changes: Any) -> Row:
    """A row in which everything is known."""
    times = np.random.default_rng(0).gamma(4.0, 0.01, 100) * median_ms + median_ms
    row = Row(
        artifact="out/model.int8.tflite",
        target=Target("tflite", "cpu"),
        format=Format.TFLITE,
        precision=Precision.INT8,
        status=Status.OK,
        message="",
        size_mb=6.1,
        load_ms=31.0,
        first_run_ms=14.0,
        latency_ms=summarize(times.tolist()),
        peak_rss_mb=88.4,
        accuracy=Accuracy(86.4, 97.2, 500, 83.1, 89.1),
        vs_float=VsFloat(99.2, 25.1, 500, (FLIP,), 4, 3, 1, (FLIP,)),
        placement=Placement(212, 212),
        emulated=False,
        batch=1,
        threads=2,
        source="model.keras",
        source_sha256="0" * 64,
        preprocess_ms=summarize([4.0] * 30),
        postprocess_ms=summarize([0.1] * 30),
        warm_up_runs=10,
        unstable="",
        samples_ms=tuple(times.tolist()),
    )
    return replace(row, **changes)


def everything() -> Row:
    """A row measured in every way there is."""
    windows = tuple(Window(0.1 * step, 10.0 + step, 50, None, None) for step in range(1, 4))
    return make_row(
        ratio=Ratio("out/base", 0.37, 0.36, 0.39, 10),
        sustained=windows,
        throughput=(Throughput(1, 2, 90.0), Throughput(2, 1, 120.0)),
        energy_mj=55.0,
        preparation=Preparation(99.0, 3, 0.05, 50),
    )


def compared_layers() -> tuple[LayerErrors, ...]:
    """Two artefacts compared layer by layer."""
    names = [f"blocks.{block}.{layer}" for block in (0, 1) for layer in ("out", "fc1", "fc2")]
    errors = {"int8": [31.0, 28.0, 25.5, 24.0, 20.5, 12.0], "fp16": [70.0, 66, 64, 63, 62, 61]}
    return tuple(
        LayerErrors(
            f"out/model.{precision}.tflite",
            Format.TFLITE,
            Precision(precision),
            tuple(map(LayerError, names, found)),
        )
        for precision, found in errors.items()
    )


def failed_row(status: Status, message: str, **changes: Any) -> Row:
    """A row that came to nothing."""
    nothing = dict.fromkeys(
        (
            *("load_ms", "first_run_ms", "latency_ms", "peak_rss_mb", "accuracy", "vs_float"),
            *("placement", "batch", "preprocess_ms", "postprocess_ms", "warm_up_runs"),
        )
    )
    return make_row(status=status, message=message, samples_ms=(), **(nothing | changes))


def make_report() -> Report:
    """Every kind of row."""
    onnx = {"format": Format.ONNX, "target": Target("onnx", "cpu")}
    rows = (
        make_row(),
        make_row(
            27.0,
            artifact="out/model.fp32.tflite",
            precision=Precision.FP32,
            size_mb=22.9,
            vs_float=VsFloat(100.0, 110.2, 500, (), 0, 0, 0, ()),
            accuracy=Accuracy(86.8, 97.6, 500, 83.5, 89.5),
        ),
        make_row(
            33.0,
            artifact="out/model.int8.onnx",
            status=Status.SLOWER,
            message="1.10 x the time of out/model.fp32.onnx",
            unstable="the median drifted by +12 % while measuring",
            **onnx,
        ),
        make_row(
            artifact="out/[bold]model.int8.onnx",
            latency_ms=None,
            samples_ms=(),
            emulated=True,
            **(onnx | {"target": Target("onnx", "qnn")}),
        ),
        failed_row(
            Status.UNAVAILABLE,
            "libvulkan.so.1: cannot open shared object file. Install the driver",
            target=Target("tflite", "gpu"),
        ),
    )
    return Report(
        ENVIRONMENT,
        rows,
        DataUsed("validation", 501, ("torn.jpg: not an image",)),
        "model.keras",
        "vitedge bench out --data validation --reference model.keras",
    )
