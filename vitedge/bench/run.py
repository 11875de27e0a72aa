"""The bench: every artefact on every target, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vitedge.bench.candidates import Candidate, find_candidates
from vitedge.bench.images import Images, spool, with_reference
from vitedge.bench.reference import ArtifactReference, Reference
from vitedge.bench.rows import row_of, size_mb
from vitedge.bench.spread import ROUNDS
from vitedge.bench.trial import Trial
from vitedge.bench.turns import measure_in_turns, ratios
from vitedge.bench.verdict import judge
from vitedge.bench.workers.messages import Measure
from vitedge.errors import UsageError
from vitedge.files.folder_lock import only_writer
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.machine.environment import physical_cores, read_environment
from vitedge.report.results import LeftOut, Report
from vitedge.targets.target import Target

# Python with an engine takes 70 to 180 MB; engines keep packed copies of the weights.
_PROCESS_MB, _COPIES_OF_WEIGHTS = 180.0, 3


@dataclass(frozen=True)
class Step:
    """The stage that a bench is in.

    Attributes:
        row: Rows begun, from 1; 0 while the reference is computed.
        rows: Rows in all.
        doing: The activity, in words.
        done: Runs, images or seconds done within it, or None.
        total: The number of steps, or None if it is unknown.
    """

    row: int
    rows: int
    doing: str
    done: int | None = None
    total: int | None = None


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class BenchOptions:
    """Options of a measurement.

    Attributes:
        threads: CPU threads; None means the physical cores that this process may use.
        runs: Timed inferences of each row; None means a hundred at least, up to a thousand while
            they are quick, fewer only when they take over a minute.
        timeout_seconds: The longest silence of a worker before it counts as hung.
        interleave: Measure the artefacts of a device in turns, whatever their runtimes, and report
            ratios pair by pair; all of them are in memory at once. Where they do not fit, those of
            a target.
        sustained_minutes: Keep each row running so long, to see how its latency drifts.
        throughput: Measure sessions in parallel as well.
        resume: Folder that keeps logits, so that a bench that was interrupted goes on where it
            stopped; times are measured anew.
    """

    threads: int | None = None
    runs: int | None = None
    timeout_seconds: float = 300.0
    interleave: bool = False
    sustained_minutes: float | None = None
    throughput: bool = False
    resume: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        if self.runs is not None and self.runs < 1:
            raise UsageError(f"runs must be at least 1, not {self.runs}")
        if self.sustained_minutes is not None and self.sustained_minutes <= 0:
            raise UsageError(f"minutes must be more than 0, not {self.sustained_minutes}")


def run_bench(
    artifacts: Sequence[Path],
    targets: Sequence[Target] = (),
    *,
    data: ImageSet | None = None,
    reference: Reference | None = None,
    options: BenchOptions | None = None,
    on_step: OnStep = lambda _: None,
) -> Report:
    """Measures artefacts.

    Args:
        artifacts: The files.
        targets: The targets to run on; those that cannot run here become rows that say why. Empty
            means all that are ready.
        data: Images for accuracy; labels must index the artefacts' classes.
        reference: The model to compare logits with; needs ``data``.
        options: The options of the measurement.
        on_step: Told what is going on, often.

    Raises:
        UsageError: No target reads any artefact, there is a reference but no data, or another
            bench keeps its logits in the same folder meanwhile.
        ModelError: An artefact is missing, or the reference cannot be run.
        DataError: No image is readable, or a label is not a class of an artefact.
    """
    options = options or BenchOptions()
    if reference is not None and data is None:
        raise UsageError("a reference needs images to compare on: give --data")
    threads = options.threads or physical_cores()
    environment = read_environment(threads)
    left_out: list[LeftOut] = []
    candidates = find_candidates(artifacts, targets, options.timeout_seconds, left_out.append)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("vitedge-bench-"))
        if options.resume is not None:
            stack.enter_context(only_writer(options.resume))
        images = None
        if data is not None:
            machine = f"{environment.cpu} {dict(environment.versions)}"
            images = spool(data, folder, keep=options.resume, machine=machine)
        if images is not None and reference is not None:
            images = with_reference(
                images,
                reference,
                threads=threads,
                timeout_seconds=options.timeout_seconds,
                on_image=_Teller(on_step, 0, 0, f"reference {_name(reference)}").about(
                    "images", images.n
                ),
            )
        bench = _Bench(options, threads, images, on_step, environment.memory_mb)
        trials = bench.run(candidates)
        used = None if images is None else images.used_by(trials)
    found = ratios(trials) if options.interleave else {}
    rows = judge(tuple(row_of(trial, found.get(position)) for position, trial in enumerate(trials)))
    return Report(
        environment=environment,
        rows=rows,
        data=used,
        reference=_name(reference),
        thumbnails={} if images is None else images.thumbnails(rows),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True)
class _Teller:
    """Says what goes on in one row."""

    on_step: OnStep
    row: int
    rows: int
    name: str

    def say(self, doing: str, done: int | None = None, total: int | None = None) -> None:
        self.on_step(Step(self.row, self.rows, f"{self.name}: {doing}", done, total))

    def about(self, doing: str, total: int | None) -> Callable[[int], None]:
        return lambda done: self.say(doing, done, total)


@dataclass(frozen=True, eq=False)
class _Bench:
    """The state that all trials of one bench share."""

    options: BenchOptions
    threads: int
    images: Images | None
    on_step: OnStep
    memory_mb: float | None

    def run(self, candidates: Sequence[Candidate]) -> list[Trial]:
        """Tries every candidate; the trials come in the candidates' order."""
        tellers = {
            candidate: _Teller(self.on_step, number, len(candidates), str(candidate))
            for number, candidate in enumerate(candidates, start=1)
        }
        trials: dict[Candidate, Trial] = {}
        for group in self._groups(candidates):
            told = {candidate: tellers[candidate] for candidate in group}
            trials |= dict(zip(group, self._try_together(told), strict=True))
        return [trials[candidate] for candidate in candidates]

    def _groups(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        if not self.options.interleave:
            return [[candidate] for candidate in candidates]
        groups: list[list[Candidate]] = []
        for group in _grouped(candidates, lambda candidate: candidate.target.device):
            fits = self.memory_mb is None or sum(map(_needed_mb, group)) < self.memory_mb
            groups += [group] if fits else _grouped(group, lambda candidate: candidate.target)
        return groups

    def _try_together(self, tellers: dict[Candidate, _Teller]) -> list[Trial]:
        trials: list[Trial] = []
        try:
            for candidate, teller in tellers.items():
                teller.say("loading")
                trials.append(Trial.start(candidate, self.threads, self.options.timeout_seconds))
                trials[-1].open()
                if self.images is not None:
                    self.images.check_labels(trials[-1])
                teller.say("warming up")
                trials[-1].warm_up()
            self._measure(trials, tellers)
            for trial in trials:
                self._finish(trial, tellers[trial.candidate])
        finally:
            for trial in trials:
                trial.close()
        return trials

    def _measure(self, trials: list[Trial], tellers: dict[Candidate, _Teller]) -> None:
        runs = self.options.runs
        if self.options.interleave:
            measure_in_turns(
                trials,
                runs,
                lambda trial, turn: tellers[trial.candidate].say("in turns", turn, ROUNDS),
            )
            return
        for trial in trials:
            teller = tellers[trial.candidate]
            teller.say("measuring", 0, runs)
            trial.measure(Measure(runs), teller.about("measuring", runs))

    def _finish(self, trial: Trial, teller: _Teller) -> None:
        """Everything after the comparable times; memory first, before anything adds to it."""
        trial.inspect()
        if self.options.sustained_minutes is not None:
            seconds = round(60 * self.options.sustained_minutes)
            trial.sustain(self.options.sustained_minutes, teller.about("sustaining", seconds))
        if self.options.throughput:
            teller.say("throughput")
            trial.saturate()
        if self.images is not None:
            self.images.assess(trial, teller.about("images", self.images.n))
        trial.close()


def _grouped(
    candidates: Sequence[Candidate], key: Callable[[Candidate], Hashable]
) -> list[list[Candidate]]:
    groups: dict[Hashable, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(key(candidate), []).append(candidate)
    return list(groups.values())


def _needed_mb(candidate: Candidate) -> float:
    """Memory of a process with the artefact, generously."""
    return _PROCESS_MB + _COPIES_OF_WEIGHTS * size_mb(candidate.artifact)


def _name(reference: Reference | None) -> str | None:
    if isinstance(reference, ArtifactReference):
        return f"{reference.artifact.name} on {reference.target}"
    return None if reference is None else reference.name
