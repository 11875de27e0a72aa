"""``vitedge.bench``: artefacts are measured."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import several_paths, targets_of
from vitedge.api.photos import calibration_set, photos_of
from vitedge.bench import request
from vitedge.bench.run import BenchOptions
from vitedge.errors import UsageError
from vitedge.images.in_memory import Images
from vitedge.remote.adb import PREFIX as ADB
from vitedge.report.results import Report
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

REMOTE_FOLDER = ".cache/vitedge"
"""Where a host keeps the environment and the files, unless told otherwise."""


def bench(
    artifacts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    *,
    targets: str | Target | Iterable[str | Target] = (),
    data: Images | None = None,
    reference: Model | None = None,
    threads: int | None = None,
    runs: int | None = None,
    interleave: bool = False,
    sustained: float | None = None,
    throughput: bool = False,
    layers: bool = False,
    calibration: Images | None = None,
    resume: str | os.PathLike[str] | None = None,
    host: str | None = None,
    remote_dir: str | os.PathLike[str] | None = None,
    benchmark_model: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    warn: Tell = python_warning,
) -> Report:
    """Measures artefacts: latency, memory, accuracy, agreement, placement.

    Each row is measured in a process of its own::

        report = vitedge.bench("artefacts", data="photos", reference=model)
        report.rows[0].latency_ms.p50

    Args:
        artifacts: Files and folders. None means the artefacts of the current folder; if there are
            none, the built-in digits model.
        targets: The places to run, such as ``tflite-cpu``. None means all targets that are ready.
        data: Images to measure accuracy on: where ``--data`` may lie, or uint8 pixels in memory.
        reference: A model, in a file or in memory, or a float32 artefact to compare with.
        threads: CPU threads; None means the physical cores.
        runs: Timed inferences of each row.
        interleave: Measure in turns: ratios that a machine's drift cannot bend.
        sustained: Minutes to keep running, to see how latency drifts.
        throughput: Measure parallel requests as well.
        layers: Compare artefacts with the reference model layer by layer.
        calibration: The images that the artefacts were calibrated on; ``layers`` needs them where
            an artefact was made with ``width``, because what remained was fitted to them.
        resume: Folder that keeps logits, so that an interrupted bench goes on.
        host: Measure on this machine, which ssh reaches; ``adb:SERIAL`` is an Android device.
        remote_dir: Folder on the host for the environment and the files; None means
            ``.cache/vitedge``, and ``/data/local/tmp`` over adb.
        benchmark_model: LiteRT's program of that name, which an Android device runs.
        progress: Told how far things are.
        warn: Told what is odd; by default Python warns.

    Returns:
        The report. A row that failed says so in its ``status``; it is not an error.

    Raises:
        UsageError: A file is not an artefact, no target reads any, or options contradict.
        ModelError: A file is missing or cannot be read.
        DataError: The images cannot be used, or their classes are not the model's.
    """
    if layers and (reference is None or host is not None):
        raise UsageError("--layers needs the model as --reference, and no --host")
    if calibration is not None and not layers:
        raise UsageError("--calibration is for --layers alone")
    there = None if host is None else _Host(host, remote_dir, benchmark_model)
    if there is None and benchmark_model is not None:
        raise UsageError("--benchmark-model is what --host adb:SERIAL runs on an Android device")
    asked = request.Request(
        artifacts=several_paths(artifacts),
        targets=targets_of(targets),
        data=photos_of(data),
        options=BenchOptions(
            threads=threads,
            runs=runs,
            interleave=interleave,
            sustained_minutes=sustained,
            throughput=throughput,
            resume=None if resume is None else Path(resume),
        ),
    )
    if reference is None:
        return _measured(asked, there, progress, warn)
    fitted_to = calibration_set(calibration)
    with opened(reference) as model:
        asked = replace(asked, reference=model.path, importing=model.importing)
        if not layers:
            return _measured(asked, there, progress, warn)
        from vitedge.importers import read_model
        from vitedge.inspection.compare import compare_all

        network = read_model(model.path, model.importing).network
        report = _measured(replace(asked, network=network), there, progress, warn)
        compared = compare_all(
            model.path,
            network,
            report,
            asked.data,
            calibration=fitted_to,
            progress=progress,
        )
        return replace(report, layers=compared)


@dataclass(frozen=True)
class _Host:
    """Another machine that measures.

    Attributes:
        name: The device's name, as ssh takes it, or ``adb:SERIAL``.
        folder: The device's folder for the bench's files, or None.
        benchmark_model: The program that an Android device runs, or None.
    """

    name: str
    folder: str | os.PathLike[str] | None
    benchmark_model: str | os.PathLike[str] | None


def _measured(
    asked: request.Request, there: _Host | None, progress: Progress, warn: Tell
) -> Report:
    if there is None:
        return request.measure(asked, progress=progress, warn=warn)
    program = there.benchmark_model
    if there.name.startswith(ADB):
        from vitedge.remote.android import measure_on_android

        return measure_on_android(
            there.name,
            None if there.folder is None else PurePosixPath(there.folder),
            asked,
            None if program is None else Path(program),
            progress=progress,
            say=warn,
        )
    if program is not None:
        raise UsageError("--benchmark-model is what --host adb:SERIAL runs on an Android device")
    from vitedge.remote.bench import measure_on

    folder = PurePosixPath(REMOTE_FOLDER if there.folder is None else there.folder)
    return measure_on(there.name, folder, asked, progress=progress, say=warn)
