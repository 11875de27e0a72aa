"""Decides which artefacts run on which targets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitedge.artifacts.metadata import Metadata, format_of, read_metadata
from vitedge.bench.process import WorkerError, WorkerProcess
from vitedge.bench.workers.messages import Probe, Probed
from vitedge.errors import ModelError, UsageError
from vitedge.report.results import LeftOut
from vitedge.runtimes import Readiness, runtime_for, targets
from vitedge.targets.formats import Format
from vitedge.targets.target import Target


@dataclass(frozen=True, eq=False)
class Candidate:
    """One artefact for one target.

    Attributes:
        artifact: The file.
        format: Its format.
        metadata: The metadata in the file, or None.
        fault: The reason why it cannot be read; empty if it can.
        target: The place where it shall run.
        availability: Whether the target can run here.
    """

    artifact: Path
    format: Format
    metadata: Metadata | None
    fault: str
    target: Target
    availability: Probed

    def __str__(self) -> str:
        return f"{self.artifact.name} on {self.target}"

    @property
    def is_emulated(self) -> bool:
        """Whether times on this target mean nothing."""
        return self.availability.readiness == Readiness.EMULATED

    @property
    def is_missing(self) -> bool:
        """Whether the target cannot run here."""
        return self.availability.readiness == Readiness.MISSING


def find_candidates(
    artifacts: Iterable[Path],
    wanted: Sequence[Target],
    timeout_seconds: float,
    on_left_out: Callable[[LeftOut], None] = lambda _: None,
) -> tuple[Candidate, ...]:
    """Pairs artefacts with the targets that read their format.

    Args:
        artifacts: The files; one named twice counts once.
        wanted: Targets, ready or not; empty means all that are ready here. An artefact for which
            none is ready keeps its format's CPU target, to say why.
        timeout_seconds: The longest time that a driver may take to say whether it is here.
        on_left_out: Told of each target that reads one of the files, was not asked for by name and
            is not ready.

    Raises:
        UsageError: A target is unknown, a file is not an artefact, or none of the targets reads any
            of the files.
        ModelError: A file is missing.
    """
    unique = tuple({path.resolve(): path for path in artifacts}.values())
    formats = {path: format_of(path) for path in unique}
    for path in unique:
        if not path.is_file():
            raise ModelError(f"there is no artefact '{path}'")
    readers = {target: runtime_for(target).format for target in wanted or targets()}
    needed = {target: reads for target, reads in readers.items() if reads in formats.values()}
    if not needed:
        raise UsageError(
            f"none of {', '.join(map(str, readers))} reads "
            f"{' or '.join(sorted({found.suffix for found in formats.values()})) or 'no artefact'}"
        )
    probed = probe_all(needed, timeout_seconds)
    found: list[Candidate] = []
    for path in unique:
        metadata, fault = _metadata_of(path)
        make = partial(Candidate, path, formats[path], metadata, fault)
        fitting = [target for target, reads in needed.items() if reads is formats[path]]
        chosen = fitting if wanted else _ready(fitting, probed)
        found += [make(target, probed[target]) for target in chosen]
    taken = {candidate.target for candidate in found}
    for target, state in probed.items():
        if target not in taken:
            on_left_out(LeftOut(str(target), state.readiness, state.detail))
    return tuple(found)


def probe(target: Target, timeout_seconds: float, *, compiling: bool = False) -> Probed:
    """Asks a process of its own whether a target can run here; a driver that crashes is missing.

    Args:
        target: The target.
        timeout_seconds: The longest time that its driver may take to answer.
        compiling: Ask for its compiler instead; only of a target that has one.

    Raises:
        UsageError: No runtime knows the target.
    """
    return _probed([target], timeout_seconds, compiling=compiling)[target]


def probe_all(wanted: Iterable[Target], timeout_seconds: float) -> dict[Target, Probed]:
    """Asks about several targets: a process for each runtime, as it is mostly an engine's import.

    Raises:
        UsageError: No runtime knows one of the targets.
    """
    order = list(dict.fromkeys(wanted))
    groups: dict[str, list[Target]] = {}
    for target in order:
        groups.setdefault(target.runtime, []).append(target)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(lambda group: _probed(group, timeout_seconds), groups.values())
        found = {target: state for each in answers for target, state in each.items()}
    return {target: found[target] for target in order}


def _probed(
    wanted: Sequence[Target], timeout_seconds: float, *, compiling: bool = False
) -> dict[Target, Probed]:
    """The answers of one process; where a driver ends it, another process asks about the rest."""
    for target in wanted:
        runtime_for(target)
    found: dict[Target, Probed] = {}
    while left := wanted[len(found) :]:
        with WorkerProcess(timeout_seconds) as worker:
            for target in left:
                try:
                    found[target] = worker.ask(Probe(str(target), compiling), Probed)
                except WorkerError as error:
                    found[target] = Probed(Readiness.MISSING, error.message, "")
                    break
    return found


def _ready(fitting: list[Target], probed: dict[Target, Probed]) -> list[Target]:
    ready = [target for target in fitting if probed[target].readiness == Readiness.READY]
    return ready or sorted(fitting, key=lambda target: target.device != "cpu")[:1]


def _metadata_of(path: Path) -> tuple[Metadata | None, str]:
    try:
        return read_metadata(path), ""
    except ModelError as error:
        return None, str(error)
