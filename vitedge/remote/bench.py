"""``vitedge bench --host``: the bench of another machine, told and reported as if it were here."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vitedge.artifacts.metadata import files_of, format_of, sha256_of
from vitedge.bench.reference import Reference
from vitedge.bench.request import Request, resolve, warn_of_overlaps
from vitedge.bench.run import BenchOptions, Step
from vitedge.bench.verdict import judge
from vitedge.errors import UsageError, VitedgeError
from vitedge.files.dataclass_json import from_plain
from vitedge.files.json_values import parse_object
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.machine.environment import Environment
from vitedge.remote.device import Device
from vitedge.remote.errors import ConnectionLost, RemoteError
from vitedge.remote.installation import Installation, install, upload
from vitedge.remote.journal import State
from vitedge.remote.shipment import pack
from vitedge.remote.ssh import SshDevice
from vitedge.report.results import DataUsed, LeftOut, Report, Row
from vitedge.targets.target import Target
from vitedge.terminal.printable import one_line
from vitedge.terminal.progress import Progress

Say = Callable[[str], None]
"""Tells the person something that must not be missed."""

_PICTURE = re.compile(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/]*={0,2}")

# A Raspberry Pi is back half a minute after a restart, one that checks its disk after minutes.
_PATIENCE_SECONDS = 600.0
_SECONDS_BETWEEN_TRIES = 3.0


def measure_on(
    host: str, folder: PurePosixPath, request: Request, *, progress: Progress, say: Say
) -> Report:
    """Runs the bench that was asked for on another machine; see ``RemoteBench.run``."""
    found = resolve(request)
    warn_of_overlaps(request, found, say)
    bench = RemoteBench(SshDevice(host, folder), progress, say)
    return bench.run(
        found.artifacts,
        request.targets,
        data=found.data,
        reference=found.reference,
        options=request.options,
    )


class RemoteBench:
    """One bench on one device.

    Args:
        device: The device.
        progress: Told how far things are.
        say: Told of interruptions.
        patience_seconds: The longest time that a device may be out of reach before the bench is
            given up.
    """

    def __init__(
        self,
        device: Device,
        progress: Progress,
        say: Say,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._device, self._progress, self.say = device, progress, say
        self._patience_seconds = patience_seconds

    def run(
        self,
        artifacts: Sequence[Path],
        targets: Sequence[Target],
        *,
        data: ImageSet | None,
        reference: Reference | None,
        options: BenchOptions,
    ) -> Report:
        """Measures artefacts on the device; see ``vitedge.bench.run.run_bench``.

        What was measured before an interruption is not measured again: neither when the device
        comes back within the patience, nor when the same bench is asked for later.

        Raises:
            ConnectionLost: The device cannot be reached, or was out of reach for too long.
            UnavailableError: vitedge cannot be installed there.
            VitedgeError: The bench failed there; the message is its own.
        """
        if reference is not None and data is None:
            raise UsageError("a reference needs images to compare on: give --data")
        if options.resume is not None:
            raise UsageError("--resume is for benches here; one on a --host resumes by itself")
        formats = {format_of(path) for path in artifacts}
        installation = install(self._device, formats, self._progress)
        names = {self._send(path): path for path in artifacts}
        shipment = None if data is None else self._send_images(data, reference)
        request = {
            "artifacts": list(names),
            "targets": [str(target) for target in targets],
            "options": asdict(replace(options, resume=None)),
            "shipment": None if shipment is None else str(shipment),
        }
        folder = self._send_request(request, installation)
        state = _Followed(self, installation, folder).until_it_ends()
        self._device.run(["rm", "-rf", folder])
        with understanding(self._device.host, "its report"):
            return _report(state, names)

    def _send(self, artifact: Path) -> str:
        """Copies an artefact, unless it is there, and returns its absolute path there."""
        parts = files_of(artifact)
        digest = hashlib.sha256("".join(sha256_of(part) for part in parts).encode()).hexdigest()
        folder = self._device.folder / "artifacts" / digest[:16]
        self._progress(f"{self._device.host}: copying {artifact.name}", 0, 0)
        upload(self._device, parts, folder)
        return str(folder / artifact.name)

    def _send_images(self, data: ImageSet, reference: Reference | None) -> PurePosixPath:
        with temporary_folder("vitedge-shipment-") as place:
            files, digest = pack(
                data,
                reference,
                place,
                lambda done: self._progress("reference", done, len(data.samples)),
            )
            self._progress(f"{self._device.host}: copying {len(data.samples)} images", 0, 0)
            folder = self._device.folder / "images" / digest[:16]
            upload(self._device, files, folder)
        return folder

    def _send_request(
        self, request: Mapping[str, Any], installation: Installation
    ) -> PurePosixPath:
        """Sends the request; an equal one gets the folder of an interrupted bench again."""
        text = json.dumps(request, sort_keys=True, default=str)
        digest = hashlib.sha256(f"{installation.digest} {text}".encode()).hexdigest()
        folder = self._device.folder / "jobs" / digest[:16]
        self._device.run(["mkdir", "-p", folder])
        self._device.run(["tee", folder / "request.json"], text=text)
        return folder

    @contextmanager
    def patience(self) -> Iterator[Callable[[ConnectionLost], None]]:
        """Yields the function to call when the connection breaks: it waits, or gives up."""
        lost_at: float | None = None

        def wait(error: ConnectionLost) -> None:
            nonlocal lost_at
            now = time.monotonic()
            if lost_at is None:
                lost_at = now
                self.say(f"{error}; waiting for it")
            if now - lost_at > self._patience_seconds:
                raise ConnectionLost(
                    f"{self._device.host} has been out of reach for "
                    f"{self._patience_seconds:.0f} s; what it measured is kept there, and the same "
                    "command goes on from it"
                ) from error
            time.sleep(_SECONDS_BETWEEN_TRIES)

        yield wait

    def show(self, step: Step) -> None:
        """Passes on what the device is doing."""
        row = f"{step.row}/{step.rows} " if step.row else ""
        self._progress(f"{row}{step.doing}", step.done or 0, step.total or 0)


@contextmanager
def understanding(host: str, what: str) -> Iterator[None]:
    """Reads what a device sent, which may be anything.

    Args:
        host: The device.
        what: The kind of content, for the message.

    Raises:
        RemoteError: The content is not what vitedge sends.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise RemoteError(
            f"{host} sends what vitedge does not understand, {one_line(what, 80)}: "
            f"{one_line(str(error), 120)}; see that its vitedge is as new as this one"
        ) from error


class _Followed:
    """A bench that runs on the device, followed over whatever happens to the connection."""

    def __init__(
        self, bench: RemoteBench, installation: Installation, folder: PurePosixPath
    ) -> None:
        self._bench, self._installation, self._folder = bench, installation, folder
        self._device = installation.device
        self._state, self._seen = State(), 0

    def until_it_ends(self) -> State:
        """Starts it, follows it, starts it again when the device restarted."""
        try:
            while not self._state.ended:
                self._go_on()
        except KeyboardInterrupt:
            self._stop()
            raise
        return self._state

    def _go_on(self) -> None:
        before = self._state.boot
        with self._bench.patience() as wait:
            while True:
                try:
                    self._job("start")
                    self._job("follow", str(self._seen))
                    break
                except ConnectionLost as error:
                    wait(error)
        if self._state.error:
            raise VitedgeError(f"on {self._device.host}: {one_line(self._state.error)}")
        if self._state.ended:
            return
        what = one_line(self._state.current) or "the bench"
        restarted = before and self._boot() != before
        how = "restarted" if restarted else "ended the bench"
        self._bench.say(f"{self._device.host} {how} while it measured {what}; going on with it")

    def _job(self, *arguments: str) -> None:
        doing, *rest = arguments
        python = self._installation.python
        module = ("-P", "-m", "vitedge.remote.job")
        self._device.run([python, *module, doing, self._folder, *rest], on_line=self._take)

    def _take(self, line: str) -> None:
        if not line.strip():
            return
        with understanding(self._device.host, line):
            event = parse_object(line)
            self._state.take(event)
            if event["event"] == "step":
                self._bench.show(from_plain(Step, event["step"]))
        self._seen += 1

    def _boot(self) -> str:
        try:
            return self._device.run(["cat", "/proc/sys/kernel/random/boot_id"]).strip()
        except (ConnectionLost, RemoteError):
            return ""

    def _stop(self) -> None:
        try:
            self._job("stop")
        except VitedgeError:
            self._bench.say(f"{self._device.host} cannot be told to stop; it may go on measuring")
            return
        self._bench.say(
            f"stopped on {self._device.host}; what it measured is kept there, and the same command "
            "goes on from it"
        )


def _report(state: State, names: Mapping[str, Path]) -> Report:
    """One report of the parts', with the artefacts' names on this machine."""
    parts = [state.reports[number] for number in sorted(state.reports)]
    if not parts:
        raise VitedgeError("nothing could be run on the device")
    rows = tuple(from_plain(Row, row) for part in parts for row in part["rows"])
    named = tuple(replace(row, artifact=_name_here(row.artifact, names)) for row in rows)
    first, last = parts[0], parts[-1]
    environment = from_plain(Environment, first["environment"])
    data = first["data"]
    return Report(
        environment=replace(environment, throttling=last["environment"]["throttling"]),
        rows=judge(named),
        data=None if data is None else from_plain(DataUsed, data),
        reference=first["reference"],
        thumbnails={
            name: _picture(url) for part in parts for name, url in part["thumbnails"].items()
        },
        left_out=tuple(from_plain(LeftOut, each) for each in first["left_out"]),
    )


def _picture(address: str) -> str:
    """An address that is a picture itself and leads nowhere."""
    if not _PICTURE.fullmatch(address):
        raise ValueError(f"'{address}' is not a picture")
    return address


def _name_here(there: str, names: Mapping[str, Path]) -> str:
    return str(names.get(there, PurePosixPath(there).name))
