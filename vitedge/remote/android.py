"""``vitedge bench --host adb:SERIAL``: what LiteRT's ``benchmark_model`` measures on a phone.

Android has no Python. A program of LiteRT's makers is copied there with the artefact, run, and
removed; it feeds random numbers, so there are times and memory, and nothing of accuracy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from vitedge.artifacts.metadata import format_of, read_metadata, sha256_of
from vitedge.bench import builtin
from vitedge.bench.process import WorkerError, WorkerProcess
from vitedge.bench.request import Request, find_artifacts
from vitedge.bench.rows import narrowing_of, size_mb
from vitedge.bench.verdict import judge
from vitedge.bench.workers.messages import Open, Opened
from vitedge.errors import ModelError, UsageError, VitedgeError
from vitedge.machine.environment import Environment
from vitedge.remote.adb import HOME, AdbDevice
from vitedge.remote.benchmark_model import WHERE, Timings, command, read_timings
from vitedge.remote.device import Device
from vitedge.remote.errors import RemoteError
from vitedge.report.results import Report, Row, Status
from vitedge.targets.formats import Format
from vitedge.targets.target import Target
from vitedge.terminal.printable import one_line
from vitedge.terminal.progress import Progress

_TARGET = Target("tflite", "cpu")
_PROGRAM = "benchmark_model"
# Phones have up to four fast cores; a thread on a slow one holds all of them up.
_MOST_THREADS = 4
_SECONDS_TO_OPEN = 300.0

_FACTS = """\
getprop ro.product.manufacturer; getprop ro.product.model; getprop ro.soc.model
getprop ro.product.cpu.abi; getprop ro.build.version.release; nproc
grep MemTotal /proc/meminfo; cat /proc/loadavg
"""

_WARNING = (
    "times are those of LiteRT's benchmark_model, which feeds random numbers: nothing is said of "
    "accuracy, nor of where operators ran"
)


def measure_on_android(
    host: str,
    folder: PurePosixPath | None,
    request: Request,
    program: Path | None,
    *,
    progress: Progress,
    say: Callable[[str], None],
) -> Report:
    """Measures TFLite artefacts on an Android device's CPU.

    Args:
        host: ``adb:`` and its serial number.
        folder: A folder that is there, in which one is made and removed again; None is adb's own.
        request: The request.
        program: LiteRT's ``benchmark_model`` for the device's processor.
        progress: Told how far things are.
        say: Told what is left out or left behind.

    Raises:
        UsageError: Something is asked for that cannot be had over adb, or the program is missing.
        ConnectionLost: The device cannot be reached, or no longer.
        UnavailableError: There is no adb here.
        ModelError: A file is missing or cannot be read.
    """
    device = AdbDevice(host, folder or HOME)
    _refuse_what_adb_has_not(request)
    tool = _program(program)
    artifacts = _artifacts(request, say)
    device.check()
    environment = _environment(device, request.options.threads, tool)
    with _room(device, say) as room:
        progress(f"{host}: copying {_PROGRAM}", 0, 0)
        _send(device, tool, room / _PROGRAM)
        device.run(["chmod", "755", room / _PROGRAM])
        bench = _Bench(device, room, environment.threads, request.options.runs)
        rows = []
        for number, artifact in enumerate(artifacts, 1):
            progress(f"{number}/{len(artifacts)} {artifact.name} on {host}", 0, 0)
            rows.append(bench.row(artifact))
    return Report(environment=environment, rows=judge(tuple(rows)))


@dataclass(frozen=True)
class _Bench:
    """Artefacts on one device.

    Attributes:
        device: The device.
        room: The folder on it that holds the program.
        threads: CPU threads.
        runs: Timed inferences, or None.
    """

    device: Device
    room: PurePosixPath
    threads: int
    runs: int | None

    def row(self, artifact: Path) -> Row:
        """The row of one artefact; a failure is a row, unless the device is out of reach."""
        try:
            opened = _opened(artifact)
            return _row(artifact, self.threads, opened.input_shape[0], self._timings(artifact))
        except (ModelError, RemoteError) as error:
            return _row(artifact, self.threads, None, None, message=str(error))

    def _timings(self, artifact: Path) -> Timings:
        there = self.room / "model.tflite"
        _send(self.device, artifact, there)
        line = command(self.room / _PROGRAM, there, threads=self.threads, runs=self.runs)
        # It prints on stderr, of which only the end is kept.
        printed = self.device.run(["sh", "-c", '"$@" 2>&1', "sh", *line])
        self.device.run(["rm", there])
        return read_timings(printed)


def _send(device: Device, file: Path, there: PurePosixPath) -> None:
    device.copy([file], there.parent)
    if file.name != there.name:
        device.run(["mv", there.parent / file.name, there])


def _row(
    artifact: Path, threads: int, batch: int | None, found: Timings | None, *, message: str = ""
) -> Row:
    metadata = None
    try:
        metadata = read_metadata(artifact)
    except ModelError as error:
        message = message or str(error)
    return Row(
        artifact=str(artifact),
        target=_TARGET,
        format=Format.TFLITE,
        precision=None if metadata is None else metadata.precision,
        status=Status.ERROR if found is None else Status.OK,
        message=message,
        size_mb=size_mb(artifact),
        load_ms=None if found is None else found.load_ms,
        first_run_ms=None if found is None else found.first_run_ms,
        latency_ms=None if found is None else found.latency_ms,
        peak_rss_mb=None if found is None else found.peak_rss_mb,
        accuracy=None,
        vs_float=None,
        placement=None,
        emulated=False,
        batch=batch,
        threads=threads,
        source=None if metadata is None else metadata.source.name,
        source_sha256=None if metadata is None else metadata.source.sha256,
        preprocess_ms=None,
        postprocess_ms=None,
        warm_up_runs=None,
        unstable="" if found is None else found.unstable,
        samples_ms=(),
        merges_tokens=metadata is not None and metadata.merging is not None,
        merging="" if metadata is None or metadata.merging is None else metadata.merging.where,
        narrowing=narrowing_of(metadata),
    )


def _refuse_what_adb_has_not(request: Request) -> None:
    options = request.options
    asked = {
        "--data": request.data is not None,
        "--reference": request.reference is not None,
        "--interleave": options.interleave,
        "--sustained": options.sustained_minutes is not None,
        "--throughput": options.throughput,
        "--resume": options.resume is not None,
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        raise UsageError(
            f"{', '.join(names)} cannot be had over adb, where LiteRT's benchmark_model measures "
            "times and memory alone; leave it out"
        )
    others = [str(target) for target in request.targets if target != _TARGET]
    if others:
        raise UsageError(f"over adb artefacts run on {_TARGET} alone, not on {', '.join(others)}")


def _program(given: Path | None) -> Path:
    if given is None:
        raise UsageError(
            "--host adb:SERIAL needs --benchmark-model FILE, LiteRT's program for the device's "
            f"processor: {WHERE} has it for arm64"
        )
    if not given.is_file():
        raise UsageError(f"there is no benchmark_model '{given}'; {WHERE} has it for arm64")
    return given


def _artifacts(request: Request, say: Callable[[str], None]) -> Sequence[Path]:
    found = find_artifacts(request.artifacts) or builtin.artifacts()
    readable = [path for path in found if format_of(path) is Format.TFLITE]
    if not readable:
        raise UsageError("over adb .tflite files are measured, and there is none among them")
    others = [path.name for path in found if path not in readable]
    if others:
        say(f"left out over adb, as they are not .tflite files: {', '.join(others)}")
    return list({path.resolve(): path for path in readable}.values())


def _opened(artifact: Path) -> Opened:
    """The artefact as it runs here: what does not, is not sent anywhere."""
    with WorkerProcess(_SECONDS_TO_OPEN) as worker:
        try:
            return worker.ask(Open(str(artifact), str(_TARGET), 1), Opened)
        except WorkerError as error:
            raise ModelError(f"it does not run here either: {error.message}") from error


@contextmanager
def _room(device: Device, say: Callable[[str], None]) -> Iterator[PurePosixPath]:
    """A folder of its own on the device, which is removed with all that is in it."""
    room = device.folder / f"vitedge-{secrets.token_hex(8)}"
    device.run(["mkdir", room])
    try:
        yield room
    finally:
        try:
            device.run(["rm", "-rf", room])
        except VitedgeError:
            say(f"{room} is left on {device.host}; remove it with: adb shell rm -rf {room}")


def _environment(device: Device, threads: int | None, program: Path) -> Environment:
    lines = [one_line(line) for line in device.run(["sh", "-c", _FACTS]).split("\n")]
    maker, model, chip, abi, release, cores, memory, load = (lines + [""] * 8)[:8]
    count = int(cores) if cores.isdecimal() and 0 < int(cores) < 1024 else 1
    kilobytes = memory.removeprefix("MemTotal:").removesuffix("kB").strip()
    return Environment(
        cpu=" ".join(part for part in (maker, model, f"({chip})" if chip else "") if part),
        machine=abi,
        cores=count,
        physical_cores=count,
        threads=threads or min(count, _MOST_THREADS),
        governor="",
        max_frequency_mhz=None,
        temperature_c=None,
        memory_mb=int(kilobytes) * 1024 / 1e6 if kilobytes.isdecimal() else None,
        load_before=_number(load.split(" ")[0]),
        os=f"Android {release}".strip(),
        python="",
        versions={"vitedge": version("vitedge"), _PROGRAM: f"sha256 {sha256_of(program)[:12]}"},
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        warnings=(_WARNING,),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
