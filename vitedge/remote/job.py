"""The bench as it runs on the device: ``python -m vitedge.remote.job start|follow|stop FOLDER``.

``start`` begins the bench in a process of its own, which no broken connection ends, or leaves the
one alone that is running. ``follow`` prints its events from a given one on as they come, until it
ends or is gone. Everything about it lies in FOLDER.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitedge.bench.candidates import find_candidates
from vitedge.bench.run import BenchOptions, Step, run_bench
from vitedge.errors import VitedgeError
from vitedge.files.dataclass_json import from_plain
from vitedge.files.folder_lock import only_writer
from vitedge.machine.environment import throttling
from vitedge.remote.journal import Journal
from vitedge.remote.shipment import Shipment, open_shipment
from vitedge.report.results import LeftOut, Report
from vitedge.targets.target import Target

REQUEST_FILE = "request.json"
_PID_FILE, _LOG_FILE = "pid", "log"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_SECONDS_BETWEEN_STEPS = 0.5
_SECONDS_BETWEEN_LOOKS = 0.2
# The connection shall not look dead while an engine compiles for minutes.
_SECONDS_BETWEEN_SIGNS = 5.0
# A device that goes down twice in the same place will do so a third time.
_MOST_BEGINNINGS = 2


@dataclass(frozen=True)
class JobRequest:
    """The host's request.

    Attributes:
        artifacts: Files on the device.
        targets: The targets to run on; empty means every target that is ready there.
        options: The options of the measurement.
        shipment: Folder of the images and the reference's logits, or None.
    """

    artifacts: tuple[str, ...]
    targets: tuple[str, ...]
    options: BenchOptions
    shipment: str | None


def start(folder: Path) -> None:
    """Begins or continues the bench, unless it is running; two that do so at once begin one."""
    with only_writer(folder, wait=True), (folder / _LOG_FILE).open("ab") as log:
        if _running(folder) is not None:
            return
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vitedge.remote.job", "run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        (folder / _PID_FILE).write_text(str(process.pid))


def stop(folder: Path) -> None:
    """Ends the bench and its workers; what is measured stays."""
    pid = _running(folder)
    if pid is not None:
        os.killpg(pid, signal.SIGTERM)


def follow(folder: Path, seen: int) -> None:
    """Prints events, from number ``seen`` on, until the bench ends or is gone."""
    journal = Journal(folder)
    last_sign = time.monotonic()
    while True:
        alive = _running(folder) is not None  # before reading: its last words come first
        events = list(journal.read())
        for event in events[seen:]:
            print(json.dumps(event), flush=True)
            last_sign = time.monotonic()
        seen = max(seen, len(events))
        if not alive:
            return
        if time.monotonic() - last_sign > _SECONDS_BETWEEN_SIGNS:
            print(flush=True)
            last_sign = time.monotonic()
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def run(folder: Path) -> None:
    """Measures all parts that the journal does not hold yet."""
    journal = Journal(folder)
    try:
        _run(json.loads((folder / REQUEST_FILE).read_text("utf-8")), journal)
    except VitedgeError as error:
        journal.write({"event": "failed", "message": str(error)})
    except Exception as error:
        journal.write({"event": "failed", "message": f"{type(error).__name__}: {error}"})
        raise


def _run(values: dict[str, Any], journal: Journal) -> None:
    request = from_plain(JobRequest, values)
    shipment = None if request.shipment is None else open_shipment(Path(request.shipment))
    left_out: list[LeftOut] = []
    parts = _parts(request, left_out.append)
    journal.mend()
    finished: set[int] = set()
    begun: dict[int, int] = {}
    for event in journal.read():
        if event["event"] == "report":
            finished.add(event["part"])
        elif event["event"] == "begun":
            begun[event["part"]] = begun.get(event["part"], 0) + 1
    names = [" and ".join(map(str, [*artifacts, *targets])) for artifacts, targets in parts]
    journal.write({"event": "started", "boot": boot_id(), "parts": names})
    for number, (artifacts, targets) in enumerate(parts):
        if number in finished:
            continue
        if begun.get(number, 0) >= _MOST_BEGINNINGS:
            raise VitedgeError(
                f"the device went down {_MOST_BEGINNINGS} times while it measured {names[number]}; "
                "leave that out, or see to its power supply and cooling"
            )
        journal.write({"event": "begun", "part": number})
        report = _measure(request, shipment, artifacts, targets, journal, number, len(parts))
        # What a part measures is named, so that only the whole knows what was left out.
        whole = replace(report, left_out=report.left_out or tuple(left_out))
        journal.write({"event": "report", "part": number, "report": whole.to_dict()})
    journal.write({"event": "ended"})


def _parts(
    request: JobRequest, on_left_out: Callable[[LeftOut], None]
) -> list[tuple[tuple[Path, ...], tuple[Target, ...]]]:
    """The parts measured apart, so that an interruption loses no more than one of them."""
    artifacts = tuple(Path(each) for each in request.artifacts)
    targets = tuple(Target.parse(each) for each in request.targets)
    if request.options.interleave:
        return [(artifacts, targets)]
    found = find_candidates(artifacts, targets, request.options.timeout_seconds, on_left_out)
    return [((each.artifact,), (each.target,)) for each in found]


def _measure(
    request: JobRequest,
    shipment: Shipment | None,
    artifacts: Sequence[Path],
    targets: Sequence[Target],
    journal: Journal,
    number: int,
    parts: int,
) -> Report:
    last = 0.0

    def tell(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_BETWEEN_STEPS:
            return
        last = time.monotonic()
        shown = step if step.rows > 1 else replace(step, row=number + 1, rows=parts)
        journal.write({"event": "step", "step": asdict(shown)})

    report = run_bench(
        artifacts,
        targets,
        data=None if shipment is None else shipment.data,
        reference=None if shipment is None else shipment.reference,
        options=request.options,
        on_step=tell,
    )
    # A processor that was slowed down says so after the fact.
    environment = replace(report.environment, throttling=throttling())
    return replace(report, environment=environment)


def boot_id() -> str:
    """The identity of this start of the system; empty where it does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _running(folder: Path) -> int | None:
    """The bench's process number while it lives."""
    try:
        pid = int((folder / _PID_FILE).read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # After a restart of the device the number may be another program's.
    return pid if str(folder).encode() in arguments else None


def main() -> None:
    """Does what the arguments say."""
    doing, folder, *rest = sys.argv[1:]
    place = Path(folder).absolute()
    match doing:
        case "start":
            start(place)
        case "follow":
            follow(place, int(rest[0]))
        case "stop":
            stop(place)
        case "run":
            run(place)


if __name__ == "__main__":
    main()
