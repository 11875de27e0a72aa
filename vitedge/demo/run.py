"""``vitedge demo``: the whole way on real scans, from nothing to a table, in a few minutes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vitedge.bench.reference import reference_from_network
from vitedge.bench.request import selected, step_shower, write_reports
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.demo.digits import digits_recipe, digits_vit
from vitedge.files.staging import refuse_existing
from vitedge.images.image_sets import digits
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.verified_write import artifact_path
from vitedge.report.results import Report
from vitedge.runtimes import runtimes
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent
from vitedge.train import Epoch, train

_CALIBRATION_IMAGES = 200

_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        accuracy: Share of held-out digits that the float32 Keras model names right, 0..1.
        held_out: The number of held-out images.
        report: The bench of all artefacts.
    """

    accuracy: float
    held_out: int
    report: Report


def run_demo(output: Path, *, force: bool = False, progress: Progress = silent) -> DemoResult:
    """Trains a ViT on scikit-learn's digits, converts it, measures every artefact.

    Leaves ``model.keras``, nine artefacts, ``report.json`` and ``report.html`` in ``output``.

    Raises:
        UsageError: One of them exists already.
        UnavailableError: The ``all`` extra is not installed.
    """
    model = output / "model.keras"
    reports = {"json": output / "report.json", "html": output / "report.html"}
    artifacts = [
        artifact_path(output, model, precision, format_)
        for format_ in all_formats()
        for precision in _PRECISIONS
    ]
    refuse_existing([model, *reports.values(), *artifacts], force=force)
    training, held_out = digits()

    def on_epoch(epoch: Epoch) -> None:
        progress(f"training: {epoch.accuracy:.1%} right", epoch.number, epoch.of)

    progress("starting TensorFlow", 0, 1)
    trained = train(digits_vit(), training, digits_recipe(), held_out=held_out, on_epoch=on_epoch)
    write_keras(trained.network, model)
    convert(
        model,
        ConvertOptions(precisions=_PRECISIONS, output=output, force=force),
        calibration=selected(training, _CALIBRATION_IMAGES),
        progress=progress,
    )
    report = run_bench(
        artifacts,
        [Target(runtime.name, "cpu") for runtime in runtimes() if "cpu" in runtime.devices],
        data=held_out,
        reference=reference_from_network(trained.network, model.name),
        options=BenchOptions(interleave=True),
        on_step=step_shower(progress),
    )
    report = replace(report, command="vitedge demo")
    write_reports(report, reports)
    accuracy = trained.history[-1].held_out_accuracy
    return DemoResult(accuracy or 0.0, len(held_out.samples), report)
