"""How near to float32 our artefacts are, beside what the runtimes' own tools make of the model.

Run: ``python benchmarks/accuracy.py --weights deit_tiny_patch16_224.safetensors --photos FOLDER``
(``pip install -e '.[benchmarks]'``). All are calibrated on FOLDER/calibration and measured on
FOLDER/validation, in the runtimes themselves, against our float32 ONNX artefact. Without photos and
weights it takes a miniature and synthetic images, which only shows that everything runs.

The table says for each artefact whether its goal was reached, and names the best of the stock
routes to the same kind of artefact; the second one holds every stock route. Artefacts stay in
``--folder``, and a later run measures them again without making them; one that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contenders import RUNTIMES, open_model, photo_sets, say
from stock_routes import ROUTES, Workbench

from vitedge.artifacts.metadata import files_of
from vitedge.bench.reference import ArtifactReference
from vitedge.bench.run import BenchOptions, Step, run_bench
from vitedge.images.image_sets import ImageSet
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.report.results import Row
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

_SYNTHETIC_PHOTOS = 24
_DYNAMIC_TFLITE = ("stock-dynamic-tflite", "stock-quantizer-tflite")
_ONNX = ("stock-dynamic-onnx", "stock-static-onnx", "stock-linear-onnx")
_OPENVINO = ("stock-nncf-openvino", "stock-nncf-on-ours-openvino")


@dataclass(frozen=True)
class Goal:
    """What an artefact must reach.

    Attributes:
        format: Its format.
        precision: Its precision.
        agreement: Percent of photos on which it names float32's class, at least.
        sqnr_db: Signal-to-noise ratio of its logits, at least.
        rivals: The stock routes to the same kind of artefact.
    """

    format: Format
    precision: Precision
    agreement: float
    sqnr_db: float
    rivals: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the table calls the artefact."""
        return f"{self.precision} {self.format}"


GOALS = (
    *(Goal(each, Precision.FP16, 99.8, 50) for each in all_formats()),
    Goal(Format.TFLITE, Precision.INT8, 99.4, 29, _DYNAMIC_TFLITE),
    Goal(Format.ONNX, Precision.INT8, 99.0, 26, _ONNX),
    Goal(Format.OPENVINO, Precision.INT8, 99.0, 26, _OPENVINO),
    Goal(Format.ONNX, Precision.INT8_STATIC, 97.5, 20, _ONNX[1:2]),
    Goal(Format.TFLITE, Precision.INT8_STATIC, 96, 15, ("stock-full-tflite",)),
    *(Goal(each, Precision.INT4, 95, 15) for each in all_formats()),
)


@dataclass(frozen=True)
class Measured:
    """How near an artefact is to float32.

    Attributes:
        agreement: Percent of photos with the same top class.
        sqnr_db: Signal-to-noise ratio of the logits; None where they are equal.
        top1: Percent of labelled photos that it names rightly, or None.
        n: Photos.
        failure: Why there are no numbers; empty when there are.
    """

    agreement: float = 0.0
    sqnr_db: float | None = None
    top1: float | None = None
    n: int = 0
    failure: str = ""

    def reaches(self, goal: Goal) -> bool:
        """Whether both figures do."""
        near = self.sqnr_db is None or self.sqnr_db >= goal.sqnr_db
        return not self.failure and self.agreement >= goal.agreement and near


def main() -> None:
    """Makes, measures and prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = _arguments()
    name = "miniature" if arguments.weights is None else "deit-tiny"
    network, source = open_model(name, arguments.folder, arguments.weights)
    calibration, validation = photo_sets(
        network.preprocessing, arguments.photos, made_up=_SYNTHETIC_PHOTOS
    )
    ours = _ours(source, calibration, arguments.folder / name)
    pixels = [network.preprocessing(sample.image) for sample in calibration.samples]
    reference = ours[Format.ONNX, Precision.FP32]
    floats = ours[Format.OPENVINO, Precision.FP32]
    bench = Workbench(network, pixels, arguments.folder / name, floats)
    stock = {each: _made(bench, each) for each in _routes(arguments.without)}
    artifacts = {str(path): f"{kind[1]} {kind[0]}" for kind, path in ours.items()}
    artifacts |= {str(path): each for each, path in stock.items()}
    found = _measured(artifacts, reference, validation, arguments.folder / name / "logits")
    show(found, network)
    if arguments.json is not None:
        record = {each: asdict(measured) for each, measured in found.items()}
        arguments.json.write_text(json.dumps(record, indent=2))


def _routes(without: Sequence[str]) -> Iterator[str]:
    wanted = {rival for goal in GOALS for rival in goal.rivals}
    return (name for name in ROUTES if name in wanted and name not in without)


def _made(bench: Workbench, route: str) -> Path:
    say(f"{route} ({ROUTES[route].words})")
    return bench.make(route)


def _ours(source: Path, photos: ImageSet, folder: Path) -> dict[tuple[Format, Precision], Path]:
    """Our artefacts, all from one calibration; fresh ones, unless all are there."""
    precisions = (Precision.FP32, *dict.fromkeys(goal.precision for goal in GOALS))
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {(goal.format, goal.precision) for goal in GOALS}
    wanted |= {(each, Precision.FP32) for each in all_formats()}
    ours = {
        (target, precision): folder / f"{source.stem}.{precision}{target.suffix}"
        for target, precision in wanted
    }
    parts = [part for path in ours.values() for part in files_of(path)]
    if not all(part.exists() for part in parts):
        say("ours")
        options = ConvertOptions(all_formats(), precisions, folder, force=True)
        refused: list[Path] = []
        convert(
            source, options, calibration=photos, on_refusal=lambda path, _: refused.append(path)
        )
        lacking = [path.name for path in ours.values() if path in refused]
        if lacking:
            raise SystemExit(f"not converted: {', '.join(lacking)}")
    return ours


def _measured(
    artifacts: Mapping[str, str], reference: Path, photos: ImageSet, kept: Path
) -> dict[str, Measured]:
    """What the bench says of each artefact, by the artefact's name."""
    rows = 0

    def tell(step: Step) -> None:
        nonlocal rows
        if step.row != rows:
            rows = step.row
            say(f"{step.row}/{step.rows} {step.doing.partition(':')[0]}")

    report = run_bench(
        [Path(path) for path in artifacts],
        [Target(runtime, "cpu") for runtime in RUNTIMES.values()],
        data=photos,
        reference=ArtifactReference(reference, Target(RUNTIMES[Format.ONNX], "cpu")),
        options=BenchOptions(runs=1, resume=kept),
        on_step=tell,
    )
    names = {Path(path).resolve(): name for path, name in artifacts.items()}
    return {names[Path(row.artifact).resolve()]: _of(row) for row in report.rows}


def _of(row: Row) -> Measured:
    if row.vs_float is None:
        return Measured(failure=row.message or row.status.value)
    top1 = None if row.accuracy is None else row.accuracy.top1
    return Measured(row.vs_float.agreement, row.vs_float.sqnr_db, top1, row.vs_float.n)


# --- showing --------------------------------------------------------------------------------------


def show(found: Mapping[str, Measured], network: Network) -> None:
    """Prints both tables."""
    n = max(measured.n for measured in found.values())
    print(f"\n{network.parameters / 1e6:.1f} million parameters, {n} photos\n")
    print("| artefact | agreement % | goal | SQNR dB | goal | | top-1 % | best stock route |")
    print("|---|--:|--:|--:|--:|---|--:|---|")
    for goal in GOALS:
        ours = found[goal.name]
        verdict = "reached" if ours.reaches(goal) else "missed"
        cells = (
            *_figures(ours, goal),
            verdict,
            _number(ours.top1),
            _best_rival(goal, found),
        )
        print(f"| {goal.name} | {' | '.join(cells)} |")
    print("\n| stock route | agreement % | SQNR dB | top-1 % |\n|---|--:|--:|--:|")
    for name, route in ROUTES.items():
        if name in found:
            each = found[name]
            figures = (_number(each.agreement), _number(each.sqnr_db), _number(each.top1))
            print(f"| {route.words} ({route.format}) | {' | '.join(figures)} | {each.failure}")


def _figures(ours: Measured, goal: Goal) -> tuple[str, str, str, str]:
    return (
        ours.failure or _number(ours.agreement),
        f"{goal.agreement:g}",
        _number(ours.sqnr_db),
        f"{goal.sqnr_db:g}",
    )


def _best_rival(goal: Goal, found: Mapping[str, Measured]) -> str:
    """The stock route with the highest SQNR, and both its figures."""
    rivals = {name: found[name] for name in goal.rivals if name in found}
    rivals = {name: each for name, each in rivals.items() if not each.failure}
    if not rivals:
        return "none"
    best = max(rivals, key=lambda name: rivals[name].sqnr_db or 0.0)
    figures = f"{_number(rivals[best].agreement)} %, {_number(rivals[best].sqnr_db)} dB"
    return f"{figures}: {ROUTES[best].words.removeprefix('... ')}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="timm's deit_tiny_patch16_224.safetensors")
    parser.add_argument(
        "--photos", type=Path, help="folder of calibration/ and validation/ [default: synthetic]"
    )
    parser.add_argument("--without", nargs="*", choices=ROUTES, default=[], help="stock routes")
    parser.add_argument("--folder", type=Path, default=Path("accuracy"), help="for the artefacts")
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
