"""``vitedge bench --host adb:SERIAL`` with the system's adb and a device that speaks to it."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner

import vitedge
from tests.support.adb_device import EmulatedDevice, adb_server, missing_program
from tests.support.target_artifacts import small_artifact
from vitedge.cli import main
from vitedge.errors import UnavailableError, UsageError
from vitedge.remote.adb import AdbDevice
from vitedge.remote.errors import ConnectionLost, RemoteError
from vitedge.report.results import Report, Status
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(missing_program() is not None, reason=f"needs {missing_program()}")


@pytest.fixture(scope="module", autouse=True)
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with adb_server(tmp_path_factory.mktemp("adb")):
        yield


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[EmulatedDevice]:
    device = EmulatedDevice(tmp_path / "phone")
    device.connect()
    yield device
    device.cut()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program with the options and the words of ``benchmark_model``."""
    path = tmp_path / "android_arm64_benchmark_model"
    module = "tests.support.benchmark_model"
    path.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec {sys.executable} -m {module} "$@"\n')
    return path  # as it is downloaded, without a right to run


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefacts")
    return small_artifact(folder, Format.TFLITE, Precision.FP32)


def there(phone: EmulatedDevice, tmp_path: Path) -> PurePosixPath:
    (tmp_path / "there").mkdir(exist_ok=True)
    return PurePosixPath(tmp_path / "there")


def measure(phone: EmulatedDevice, tmp_path: Path, artifact: Path, program: Path) -> Report:
    return vitedge.bench(
        artifact,
        host=f"adb:{phone.serial}",
        remote_dir=there(phone, tmp_path),
        benchmark_model=program,
        threads=1,
        runs=25,
    )


def test_a_phone_measures_with_litert_and_nothing_is_left_there(
    phone: EmulatedDevice, tmp_path: Path, artifact: Path, program: Path
) -> None:
    report = measure(phone, tmp_path, artifact, program)
    (row,) = report.rows
    assert row.status is Status.OK, row.message
    assert str(row.target) == "tflite-cpu"
    assert row.precision is Precision.FP32
    assert (row.batch, row.threads) == (1, 1)
    assert row.latency_ms is not None
    assert row.latency_ms.n == 25
    assert row.latency_ms.p50 is not None
    assert 0 < row.latency_ms.min <= row.latency_ms.p50 < 1000
    assert row.peak_rss_mb is not None
    assert row.peak_rss_mb > 30  # Python's, in the stand-in
    assert report.environment.cpu == "Emulated Phone"
    assert report.environment.os == "Android 16"
    assert "nothing is said of accuracy" in report.environment.warnings[0]
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.slow
def test_a_file_that_does_not_run_here_is_not_sent(
    phone: EmulatedDevice, tmp_path: Path, program: Path
) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    (row,) = measure(phone, tmp_path, path, program).rows
    assert row.status is Status.ERROR
    assert row.message
    assert not any("--graph" in command for command in phone.commands)
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.slow
def test_a_program_for_another_processor_is_a_row_in_the_devices_words(
    phone: EmulatedDevice, tmp_path: Path, artifact: Path, program: Path
) -> None:
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    (row,) = measure(phone, tmp_path, artifact, program).rows
    assert row.status is Status.ERROR
    assert "Exec format error" in row.message or "not executable" in row.message
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.slow
def test_the_command_says_what_was_measured(
    phone: EmulatedDevice, tmp_path: Path, artifact: Path, program: Path
) -> None:
    page = tmp_path / "report.html"
    done = CliRunner().invoke(
        main,
        [
            *("bench", str(artifact), "--host", f"adb:{phone.serial}", "--runs", "20"),
            *("--remote-dir", str(there(phone, tmp_path)), "--benchmark-model", str(program)),
            *("--html", str(page)),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "LiteRT's benchmark_model" in done.output
    assert "Emulated Phone" in page.read_text()


def test_a_cable_that_is_pulled_is_told_from_a_command_that_ended_well(
    phone: EmulatedDevice,
) -> None:
    device = AdbDevice(f"adb:{phone.serial}")
    threading.Timer(0.5, phone.cut).start()
    with pytest.raises(ConnectionLost, match=rf"{phone.serial}.*(offline|not found|broke)"):
        device.run(["sleep", "20"])


def test_commands_are_quoted_and_their_codes_told(phone: EmulatedDevice, tmp_path: Path) -> None:
    device = AdbDevice(f"adb:{phone.serial}")
    assert device.run(["echo", "a  b;$(c)'"]) == "a  b;$(c)'"
    assert device.run(["printf", "a\\n\\nb"]) == "a\n\nb"
    lines: list[str] = []
    assert device.run(["printf", "a\\n\\n"], on_line=lines.append) == ""
    assert lines == ["a", ""]
    with pytest.raises(RemoteError, match=r"'sh' failed on adb:.*: it broke"):
        device.run(["sh", "-c", "echo it broke >&2; exit 3"])
    with pytest.raises(ConnectionLost, match="Is a directory"):
        device.copy([ROOT / "LICENSE"], PurePosixPath(tmp_path / "absent"))


def test_what_adb_says_of_a_device_comes_with_a_remedy(tmp_path: Path) -> None:
    with adb_server(tmp_path):  # one that has seen no other device
        with pytest.raises(ConnectionLost, match=r"device 'R58M' not found; adb knows no device"):
            AdbDevice("adb:R58M").check()
        phone = EmulatedDevice(tmp_path / "phone", trusts=False)
        phone.connect()
        with pytest.raises(ConnectionLost, match=r"device unauthorized\.; unlock its screen"):
            AdbDevice(f"adb:{phone.serial}").check()
        with pytest.raises(ConnectionLost, match=rf"adb knows {phone.serial}"):
            AdbDevice("adb:R58M").check()
        phone.cut()


def test_without_adb_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("adb") is None
    with pytest.raises(UnavailableError, match="Debian: apt install adb"):
        AdbDevice("adb:R58M").check()


def test_what_adb_has_not_is_refused_before_anything_is_sent(
    phone: EmulatedDevice, artifact: Path, program: Path
) -> None:
    host = f"adb:{phone.serial}"
    with pytest.raises(UsageError, match=r"--benchmark-model FILE.*https://"):
        vitedge.bench(artifact, host=host)
    with pytest.raises(UsageError, match="--interleave, --throughput cannot be had over adb"):
        vitedge.bench(
            artifact, host=host, benchmark_model=program, interleave=True, throughput=True
        )
    with pytest.raises(UsageError, match=r"on tflite-cpu alone, not on tflite-gpu"):
        vitedge.bench(artifact, host=host, benchmark_model=program, targets="tflite-gpu")
    with pytest.raises(UsageError, match="there is no benchmark_model"):
        vitedge.bench(artifact, host=host, benchmark_model="absent")
    with pytest.raises(UsageError, match="adb:SERIAL"):
        vitedge.bench(artifact, benchmark_model=program)
    with pytest.raises(UsageError, match="adb:SERIAL"):
        vitedge.bench(artifact, host="pi", benchmark_model=program)
    assert phone.commands == []
