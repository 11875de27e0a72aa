"""Our artefacts beside what the runtimes' own tools make of the same model: latency and accuracy.

Run: ``python benchmarks/peers.py --photos FOLDER --weights deit_tiny_patch16_224.safetensors``
(``pip install -e '.[benchmarks]'``). Without them it takes random weights: latency is the same,
accuracy means nothing and is left out. A short run: ``--model deit-tiny --threads 1 --runs 20``.

Each contender runs in a process of its own; those of one format are measured in turns, A B A B, and
so is one large matrix product, which tells what share of the machine's rate an artefact reaches.
Ratios are medians over pairs of turns with their 98 % interval. A format's figures are printed, and
written to ``--json``, as soon as they are there. Artefacts stay in ``--folder``, and a later run
measures them again without making them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, zip_longest
from pathlib import Path

from contenders import MODELS, RUNTIMES, Contender, contenders, open_model
from stock_routes import ROUTES

from vitedge.bench.candidates import find_candidates
from vitedge.bench.reference import reference_from_network
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.bench.spread import ROUNDS, pairwise_ratio
from vitedge.bench.trial import Trial
from vitedge.bench.turns import measure_in_turns
from vitedge.files.staging import write_whole
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.synthetic import synthetic_images
from vitedge.network.network import Network
from vitedge.report.results import Ratio
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.display import progress_on_stderr
from vitedge.terminal.progress import Progress

_TIMEOUT_SECONDS = 300.0
_SYNTHETIC_PHOTOS = 24


@dataclass(frozen=True)
class Goal:
    """Ours over theirs must not exceed the limit."""

    format: Format
    ours: Precision
    rivals: tuple[str, ...]
    limit: float


_TFLITE_INT8 = ("stock-dynamic-tflite", "stock-full-tflite", "stock-quantizer-tflite")
_ONNX_INT8 = ("stock-dynamic-onnx", "stock-static-onnx", "stock-linear-onnx")
_FLOAT_GOALS = tuple(
    Goal(each, Precision.FP32, (f"stock-fp32-{RUNTIMES[each]}",), 0.92) for each in all_formats()
)
GOALS = {
    "deit-tiny": (
        Goal(Format.TFLITE, Precision.INT8, _TFLITE_INT8, 0.80),
        Goal(Format.TFLITE, Precision.INT8, ("stock-full-tflite",), 0.22),
        Goal(Format.ONNX, Precision.INT8, _ONNX_INT8, 0.80),
        Goal(Format.OPENVINO, Precision.INT8, ("stock-nncf-openvino",), 0.60),
        Goal(Format.OPENVINO, Precision.INT8, ("stock-nncf-on-ours-openvino",), 0.90),
        *_FLOAT_GOALS,
    ),
    "vit-base": (
        Goal(Format.TFLITE, Precision.INT8, _TFLITE_INT8, 0.90),
        Goal(Format.ONNX, Precision.INT8, _ONNX_INT8, 0.85),
        Goal(Format.OPENVINO, Precision.INT8, ("stock-nncf-openvino",), 0.80),
        *_FLOAT_GOALS,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What was measured of a contender.

    Attributes:
        name: The contender's.
        words: How it was made.
        format: Its format.
        precision: What it computes in.
        threads: CPU threads.
        n: Timed inferences.
        p50_ms: Their median, or None where nothing was timed.
        rounds_ms: Median of each turn.
        giga_operations: Multiplications and additions a second, in 10^9.
        agreement: Percent of photos on which it names the float32 model's class, or None.
        sqnr_db: Of its logits against the float32 model's, or None.
        failure: Why there are no numbers; empty when there are.
    """

    name: str
    words: str
    format: Format
    precision: Precision
    threads: int
    n: int
    p50_ms: float | None
    rounds_ms: list[float]
    giga_operations: float | None
    agreement: float | None = None
    sqnr_db: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Judged:
    """A goal, and what was reached."""

    ours: str
    rival: str
    limit: float
    ratio: Ratio

    def __str__(self) -> str:
        said = "reached" if self.ratio.median <= self.limit else "MISSED"
        return (
            f"{self.ours} / {self.rival}: {self.ratio.median:.3f} "
            f"[{self.ratio.low:.3f}, {self.ratio.high:.3f}], goal {self.limit:.2f} {said}"
        )


# --- measuring ------------------------------------------------------------------------------------


def measured(chosen: Sequence[Contender], threads: int, runs: int | None) -> dict[str, Outcome]:
    """Times the contenders of one format in turns; no runs are no times."""
    trials: list[Trial] = []
    try:
        for contender in chosen if runs != 0 else ():
            trials.append(_started(contender, threads))
            trials[-1].warm_up()
        with progress_on_stderr() as progress:
            what = f"{chosen[0].format}, {threads} threads"
            measure_in_turns(trials, runs, _teller(trials, what, progress))
    finally:
        for trial in trials:
            trial.close()
    pairs = zip_longest(chosen, trials)
    return {each.name: _outcome(each, threads, trial) for each, trial in pairs}


def _teller(trials: Sequence[Trial], what: str, progress: Progress) -> Callable[[Trial, int], None]:
    """What ``measure_in_turns`` tells of each turn, as progress."""
    turns = count()
    return lambda trial, _: progress(what, next(turns), ROUNDS * len(trials))


def _started(contender: Contender, threads: int) -> Trial:
    target = Target(RUNTIMES[contender.format], "cpu")
    (candidate,) = find_candidates([contender.path], [target], _TIMEOUT_SECONDS)
    trial = Trial.start(candidate, threads, _TIMEOUT_SECONDS)
    trial.open()
    return trial


def _outcome(contender: Contender, threads: int, trial: Trial | None) -> Outcome:
    samples = [] if trial is None else trial.samples_ms
    median = statistics.median(samples) if samples else None
    return Outcome(
        name=contender.name,
        words=contender.words,
        format=contender.format,
        precision=contender.precision,
        threads=threads,
        n=len(samples),
        p50_ms=median,
        rounds_ms=[] if trial is None else trial.rounds_ms,
        giga_operations=None if median is None else contender.operations / median / 1e6,
        failure=trial.failure.message if trial is not None and trial.failure else "",
    )


def with_accuracy(
    outcomes: dict[str, Outcome],
    chosen: Sequence[Contender],
    network: Network,
    photos: ImageSet,
    kept: Path,
) -> dict[str, Outcome]:
    """Adds agreement and SQNR against the float32 model, on all photos.

    Logits stay in the folder ``kept``: those of the float32 model serve every format.
    """
    artifacts = {each.path.resolve(): each.name for each in chosen if not _is_product(each.name)}
    report = run_bench(
        list(artifacts),
        [Target(RUNTIMES[target], "cpu") for target in {each.format for each in chosen}],
        data=photos,
        reference=reference_from_network(network, "float32"),
        options=BenchOptions(runs=1, resume=kept),
        on_step=lambda step: None,
    )
    found = dict(outcomes)
    for row in report.rows:
        name = artifacts[Path(row.artifact).resolve()]
        if row.vs_float is not None:
            found[name] = replace(
                found[name], agreement=row.vs_float.agreement, sqnr_db=row.vs_float.sqnr_db
            )
    return found


def _is_product(name: str) -> bool:
    return name.startswith("gemm")


def judged(goals: Sequence[Goal], outcomes: dict[str, Outcome]) -> list[Judged]:
    """What was reached of each goal whose contenders were measured."""
    found = []
    for goal in goals:
        ours = outcomes.get(f"ours-{goal.ours}-{RUNTIMES[goal.format]}")
        rivals = [outcomes[name] for name in goal.rivals if name in outcomes]
        timed = [rival for rival in rivals if rival.p50_ms is not None]
        if ours is None or ours.p50_ms is None or not timed:
            continue
        best = min(timed, key=lambda rival: rival.p50_ms)
        ratio = pairwise_ratio(ours.rounds_ms, best.rounds_ms, best.name)
        found.append(Judged(ours.name, best.name, goal.limit, ratio))
    return found


# --- showing --------------------------------------------------------------------------------------


def show(outcomes: Sequence[Outcome]) -> None:
    """Prints the figures of one format."""
    print("| contender | p50 ms | n | GOP/s | agree % | SQNR dB |")
    print("|---|--:|--:|--:|--:|--:|")
    for each in outcomes:
        cells = (
            _number(each.p50_ms, 2),
            str(each.n),
            _number(each.giga_operations, 0),
            _number(each.agreement, 1),
            _number(each.sqnr_db, 1),
        )
        print(f"| {each.name} | {' | '.join(cells)} |{' ' + each.failure if each.failure else ''}")


def show_shares(outcomes: Sequence[Outcome]) -> None:
    """Prints what share of the machine's best rate, of any format's product, each reaches."""
    for precision in (Precision.FP32, Precision.INT8):
        timed = [each for each in outcomes if each.precision is precision and each.giga_operations]
        products = [each for each in timed if _is_product(each.name)]
        if not products:
            continue
        best = max(products, key=lambda each: each.giga_operations)
        print(f"\n{best.name}: {best.giga_operations:.0f} GOP/s. Percent of it:")
        for each in timed:
            print(f"{100 * each.giga_operations / best.giga_operations:4.0f} {each.name}")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="*", choices=MODELS, default=["deit-tiny", "vit-base"])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument(
        "--format", nargs="*", type=Format, dest="formats", default=list(all_formats())
    )
    parser.add_argument("--without", nargs="*", choices=ROUTES, default=[], help="stock routes")
    parser.add_argument(
        "--runs", type=int, help="timed inferences of each; 0 times nothing [default: enough]"
    )
    parser.add_argument("--weights", type=Path, help="timm's deit_tiny_patch16_224.safetensors")
    parser.add_argument(
        "--photos", type=Path, help="folder of calibration/ and validation/ [default: synthetic]"
    )
    parser.add_argument("--folder", type=Path, default=Path("peers"), help="for the artefacts")
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    return parser.parse_args()


def main() -> None:
    """Makes, measures and prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = _arguments()
    record: list[dict[str, object]] = []
    for name in arguments.model:
        network, source = open_model(name, arguments.folder, arguments.weights)
        photos = _calibration(network, arguments.photos)
        chosen = contenders(
            arguments.folder / name, arguments.formats, arguments.without, network, source, photos
        )
        goals = GOALS["vit-base" if name == "vit-base" else "deit-tiny"]
        validation = None
        if name == "deit-tiny" and arguments.photos and arguments.weights:
            validation = open_images(arguments.photos / "validation")
        for number, threads in enumerate(arguments.threads):
            all_outcomes: list[Outcome] = []
            for target in arguments.formats:
                group = [each for each in chosen if each.format is target]
                outcomes = measured(group, threads, arguments.runs)
                if number == 0 and validation is not None:
                    kept = arguments.folder / name / "logits"
                    outcomes = with_accuracy(outcomes, group, network, validation, kept)
                reached = judged(goals, outcomes)
                print(f"\n{name}, {target}, {threads} threads\n")
                show(list(outcomes.values()))
                print("", *reached, sep="\n", flush=True)
                record.append(
                    {
                        "model": name,
                        "format": target,
                        "threads": threads,
                        "outcomes": [asdict(each) for each in outcomes.values()],
                        "goals": [asdict(each) for each in reached],
                    }
                )
                if arguments.json is not None:
                    write_whole(arguments.json, json.dumps(record, indent=2))
                all_outcomes += outcomes.values()
            show_shares(all_outcomes)


def _calibration(network: Network, photos: Path | None) -> ImageSet:
    if photos is not None:
        return open_images(photos / "calibration")
    return synthetic_images(network.preprocessing, _SYNTHETIC_PHOTOS, seed=0)


if __name__ == "__main__":
    main()
