"""`bench --host` and `deploy` against a real ssh server on this machine."""

from __future__ import annotations

import getpass
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.support.ssh_server import HOST, Server, missing_program, ssh_server
from vitedge.bench import builtin
from vitedge.bench.request import Request, resolve
from vitedge.bench.run import BenchOptions
from vitedge.errors import UnavailableError, VitedgeError
from vitedge.remote.bench import RemoteBench
from vitedge.remote.deploy import deploy
from vitedge.remote.installation import install
from vitedge.remote.journal import Journal
from vitedge.remote.ssh import SshDevice
from vitedge.report.results import Report, Status
from vitedge.targets.formats import Format
from vitedge.targets.target import Target

TFLITE, ONNX = (
    next(path for path in builtin.artifacts() if path.suffix == suffix)
    for suffix in (".tflite", ".onnx")
)
FORMATS = (Format.TFLITE, Format.ONNX)
PATIENCE_S = 120


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    absent = missing_program()
    if absent is not None:
        pytest.skip(f"needs {absent} (apt install openssh-server openssh-client)")
    before = os.environ["PATH"]
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        os.environ["PATH"] = f"{running.programs}:{before}"
        try:
            yield running
        finally:
            os.environ["PATH"] = before


@pytest.fixture(scope="module")
def device(server: Server, tmp_path_factory: pytest.TempPathFactory) -> SshDevice:
    """A device with vitedge installed on it, from the network, once for all tests."""
    there = SshDevice(HOST, PurePosixPath(tmp_path_factory.mktemp("there")))
    try:
        install(there, FORMATS, silent)
    except UnavailableError as error:
        pytest.skip(f"packages cannot be had: {error}")
    return there


def run_bench(
    device: SshDevice, said: list[str], progress: object = silent, **options: int
) -> Report:
    bench = RemoteBench(device, progress, said.append, patience_seconds=PATIENCE_S)
    return bench.run(
        [TFLITE, ONNX],
        [Target("tflite", "cpu"), Target("onnx", "cpu")],
        data=None,
        reference=None,
        options=BenchOptions(threads=1, **options),
    )


def jobs(device: SshDevice) -> list[Path]:
    return sorted(Path(device.folder).glob("jobs/*"))


@pytest.mark.slow
def test_rows_come_back_as_if_measured_here(device: SshDevice) -> None:
    steps: list[str] = []
    said: list[str] = []
    report = run_bench(device, said, lambda what, *_: steps.append(what), runs=20)
    assert [row.artifact for row in report.rows] == [str(TFLITE), str(ONNX)]
    for row in report.rows:
        assert row.status is Status.OK, row.message
        assert len(row.samples_ms) == 20
        assert row.latency_ms is not None
        assert row.latency_ms.n == 20
    assert report.environment.cpu
    assert report.environment.versions["vitedge"]
    assert "tensorflow" not in report.environment.versions
    assert any("copying" in step for step in steps)
    assert any("1/2" in step or "2/2" in step for step in steps)
    assert said == []
    assert jobs(device) == []  # a bench that ended is measured anew the next time


@pytest.mark.slow
def test_what_is_there_is_used_again(device: SshDevice) -> None:
    run_bench(device, [], runs=2)
    stamp = Path(device.folder) / "venv" / "vitedge-installed"
    copied = sorted(Path(device.folder).glob("artifacts/*/*"))
    before = [path.stat().st_mtime_ns for path in (stamp, *copied)]
    install(device, FORMATS, silent)
    run_bench(device, [], runs=2)
    assert copied
    assert [path.stat().st_mtime_ns for path in (stamp, *copied)] == before


@pytest.mark.slow
def test_a_connection_that_breaks_is_made_again(device: SshDevice, server: Server) -> None:
    said: list[str] = []
    cut = threading.Event()

    def break_it(what: str, *_: object) -> None:
        if "measuring" in what and not cut.is_set() and server.cut():
            cut.set()

    report = run_bench(device, said, break_it, runs=80_000)
    assert cut.is_set()
    assert [row.status for row in report.rows] == [Status.OK, Status.OK]
    assert any(f"{HOST} cannot be reached" in words for words in said)
    # The bench itself went on: nothing was measured twice.
    assert not any("going on" in words for words in said)


def begun_parts(folder: Path) -> list[int]:
    return [event["part"] for event in Journal(folder).read() if event["event"] == "begun"]


@pytest.mark.slow
def test_a_device_that_goes_down_goes_on_with_what_was_not_finished(device: SshDevice) -> None:
    said: list[str] = []
    seen: list[list[int]] = []

    def pull_the_plug(what: str, *_: object) -> None:
        if "2/2" in what and not seen:
            (folder,) = jobs(device)
            seen.append(begun_parts(folder))
            os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)
        elif seen and jobs(device):
            seen.append(begun_parts(jobs(device)[0]))

    report = run_bench(device, said, pull_the_plug, runs=80_000)
    assert [row.status for row in report.rows] == [Status.OK, Status.OK]
    assert seen[0] == [0, 1]
    assert seen[-1] == [0, 1, 1]
    (words,) = said
    assert words.startswith(f"{HOST} ended the bench while it measured")
    assert ONNX.name in words


@pytest.mark.slow
def test_a_device_that_always_goes_down_at_one_place_is_given_up(device: SshDevice) -> None:
    said: list[str] = []

    def pull_the_plug(what: str, *_: object) -> None:
        if "1/2" in what:
            for folder in jobs(device):
                with_pid = int((folder / "pid").read_text())
                if Path(f"/proc/{with_pid}").exists():
                    os.killpg(with_pid, signal.SIGKILL)

    with pytest.raises(VitedgeError, match=r"went down 2 times while it measured .*tflite"):
        run_bench(device, said, pull_the_plug, runs=5000)
    for folder in jobs(device):
        assert begun_parts(folder) == [0, 0]
        device.run(["rm", "-rf", PurePosixPath(folder)])


@pytest.mark.slow
def test_accuracy_is_measured_there_against_a_reference_from_here(
    device: SshDevice, tmp_path: Path
) -> None:
    bench = RemoteBench(device, silent, silent)
    (tmp_path / "artefacts").mkdir()
    found = resolve(Request())
    assert found.data is not None
    report = bench.run(
        [TFLITE],
        [Target("tflite", "cpu")],
        data=found.data,
        reference=None,
        options=BenchOptions(threads=1, runs=5),
    )
    (row,) = report.rows
    assert row.accuracy is not None
    assert row.accuracy.n == len(found.data.samples)
    assert row.accuracy.top1 > 97
    assert report.data is not None
    assert report.data.n == row.accuracy.n


@pytest.mark.slow
def test_the_command_line_measures_on_a_host(device: SshDevice, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vitedge", "bench", TFLITE, "--host", HOST, "--runs", "5"]
    command += ["--remote-dir", str(device.folder), "--target", "tflite-cpu", "--threads", "1"]
    done = subprocess.run(
        [*command, "--json", tmp_path / "report.json"], capture_output=True, text=True, check=True
    )
    assert "tflite-cpu" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"][0]["status"] == "OK"
    assert {"cpu", "governor", "temperature_c", "throttling"} <= set(report["environment"])


@pytest.mark.slow
def test_whoever_interrupts_it_stops_the_device_and_can_go_on_later(device: SshDevice) -> None:
    command = [sys.executable, "-m", "vitedge", "bench", TFLITE, ONNX, "--host", HOST]
    command += ["--remote-dir", str(device.folder), "--threads", "1", "--runs", "20000"]
    command += ["--target", "tflite-cpu", "--target", "onnx-cpu"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + PATIENCE_S
    while not any(begun_parts(folder) == [0, 1] for folder in jobs(device)):
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.1)
    (folder,) = jobs(device)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=PATIENCE_S)
    assert first.returncode != 0
    assert f"stopped on {HOST}; what it measured is kept there" in errors
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert TFLITE.name in second.stdout
    assert ONNX.name in second.stdout
    assert "2 rows are OK" in second.stdout
    assert not folder.exists()


def test_a_host_that_is_not_there_is_one_line(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitedge", "bench", TFLITE, "--host", "absent.invalid"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: absent.invalid cannot be reached: ")


@pytest.mark.slow
def test_deploy_leaves_an_app_that_runs_and_keeps_what_its_maker_changed(
    device: SshDevice, tmp_path: Path
) -> None:
    folder = Path(device.folder)
    deployed = deploy(TFLITE, f"{HOST}:{folder}")
    assert deployed.kept == ()
    digit = tmp_path / "digits" / "digit.png"
    digit.parent.mkdir()
    sample = builtin.images().samples[0]
    Image.fromarray(np.asarray(sample.image).squeeze()).save(digit)
    with vitedge.load(TFLITE) as model:
        expected = model.classify(digit, top=1)[0][0]
    app = subprocess.Popen(
        f"{deployed.command} --source {digit.parent} --port 0",
        shell=True,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with app:
        try:
            assert app.stdout is not None
            ready, _, _ = select.select([app.stdout], [], [], PATIENCE_S)
            assert ready
            address = re.search(r"http://\S+", app.stdout.readline())
            assert address is not None
            with urlopen(f"{address[0]}answer.json", timeout=PATIENCE_S) as answer:
                assert json.load(answer)["classes"][0]["label"] == expected
        finally:
            os.killpg(app.pid, signal.SIGTERM)
    unit = (folder / "vitedge-camera.service").read_text()
    assert f"\nUser={getpass.getuser()}\nWorkingDirectory={folder.resolve()}\n" in unit
    assert f'/venv/bin/python" app.py "{TFLITE.name}"' in unit
    changed = folder / "app.py"
    changed.write_text(changed.read_text() + "# mine\n")
    again = deploy(TFLITE, f"{HOST}:{folder}")
    assert again.kept == ("app.py",)
    assert changed.read_text().endswith("# mine\n")
