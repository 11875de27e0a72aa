"""Devices elsewhere: what needs no connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from tests.bench_rows import ENVIRONMENT, everything, make_row
from vitedge import builtin
from vitedge.bench.environment import Environment, throttling
from vitedge.bench.images import spool, with_reference
from vitedge.bench.reference import ModelReference
from vitedge.bench.results import Row
from vitedge.data import ImageSet, Sample
from vitedge.errors import DataError, UsageError
from vitedge.preprocess import Preprocessing
from vitedge.remote.deploy import deploy
from vitedge.remote.journal import Journal, State
from vitedge.remote.plain import from_plain
from vitedge.remote.shipment import open_shipment, pack
from vitedge.remote.ssh import ConnectionLost, Device, RemoteError
from vitedge.remote.wheel import app_files, write_wheel

HERE = PurePosixPath("there")


def test_a_row_and_its_environment_survive_the_journey() -> None:
    sent = json.loads(json.dumps(everything().to_dict()))
    assert from_plain(Row, sent) == everything()
    assert from_plain(Environment, json.loads(json.dumps(asdict(ENVIRONMENT)))) == ENVIRONMENT


def test_a_device_a_version_behind_is_understood() -> None:
    sent = make_row().to_dict() | {"invented_later": 1}
    del sent["battery_mj"]
    assert from_plain(Row, sent) == replace(make_row(), battery_mj=None)
    del sent["artifact"]
    with pytest.raises(ValueError, match="this is no Row"):
        from_plain(Row, sent)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("0", ""),
        ("50000\n", "since its start: under-voltage, throttled"),
        ("50005", "now: under-voltage, throttled; since its start: under-voltage, throttled"),
        ("8", "now: soft temperature limit"),
    ],
)
def test_throttling_flags_are_put_in_words(flags: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "get_throttled").write_text(flags)
    assert throttling(tmp_path / "get_throttled") == words


def test_other_machines_have_no_throttling_flags(tmp_path: Path) -> None:
    assert throttling(tmp_path / "absent") == ""


def test_a_journal_survives_a_power_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert list(journal.read()) == []
    journal.write({"event": "started", "boot": "a", "parts": ["one", "two"]})
    journal.write({"event": "begun", "part": 0})
    journal.write({"event": "report", "part": 0, "report": {}})
    journal.write({"event": "begun", "part": 1})
    with journal.path.open("a") as stream:
        stream.write('{"event": "rep')  # the power goes
    journal.mend()
    journal.write({"event": "begun", "part": 1})
    state = State()
    for event in journal.read():
        state.take(event)
    assert state.current == "two"
    assert state.begun == {0: 1, 1: 2}
    assert set(state.reports) == {0}
    assert not state.ended


def test_the_wheel_is_this_very_version_and_always_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = write_wheel(tmp_path / "a"), write_wheel(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as wheel:
        names = set(wheel.namelist())
        mine = Path(__file__).parents[1] / "vitedge" / "classifier.py"
        assert wheel.read("vitedge/classifier.py") == mine.read_bytes()
        assert {f"vitedge/remote/app/{name}" for name in app_files()} <= names
        (record,) = [name for name in names if name.endswith("RECORD")]
        assert wheel.read(record).decode().count("\n") == len(names)
    assert not any("__pycache__" in name for name in names)


@pytest.mark.slow
def test_the_wheel_installs_and_can_make_itself_again(tmp_path: Path) -> None:
    wheel, site = write_wheel(tmp_path), tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*install, wheel], check=True)
    (tmp_path / "again").mkdir()
    program = (
        "import sys; from pathlib import Path; from vitedge.remote.wheel import write_wheel\n"
        "print(write_wheel(Path(sys.argv[1])))"
    )
    again = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "again"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with (
        zipfile.ZipFile(wheel) as one,
        zipfile.ZipFile(again.stdout.strip()) as other,
    ):
        assert set(one.namelist()) == set(other.namelist())


def test_images_arrive_as_they_were(tmp_path: Path) -> None:
    for name, value in (("a.png", 10), ("b.png", 20)):
        Image.new("L", (8, 8), value).save(tmp_path / name)
    samples = [Sample("a", tmp_path / "a.png", 1), Sample("b", tmp_path / "b.png", None)]
    (tmp_path / "sent").mkdir()
    files, digest = pack(ImageSet("two", samples, ("x", "y")), None, tmp_path / "sent", len)
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        path.unlink()
    arrived = open_shipment(tmp_path / "sent")
    assert {path.name for path in files} == {"facts.json", "images.bin", "images.jsonl"}
    assert len(digest) == 64
    assert arrived.reference is None
    assert arrived.data.name == "two"
    assert arrived.data.class_names == ("x", "y")
    assert [(each.name, each.label) for each in arrived.data.samples] == [("a", 1), ("b", None)]
    assert arrived.data.samples[1] == arrived.data.samples[:2][1]
    image = arrived.data.samples[1].image
    assert isinstance(image, bytes)
    assert image.startswith(b"\x89PNG")


def test_a_device_gets_the_logits_of_the_reference_not_the_model(tmp_path: Path) -> None:
    preprocessing = Preprocessing((4, 4), channels=1, mean=(0.5,), std=(0.5,))

    def mean_and_negative(pixels: np.ndarray) -> np.ndarray:
        mean = pixels.mean(axis=(1, 2, 3), dtype=np.float32)
        return np.stack([mean, -mean], axis=1)

    pixels = [np.full((4, 4), value, np.uint8) for value in (10, 20, 30)]
    data = ImageSet("grey", [Sample(str(each[0, 0]), each, 0) for each in pixels])
    (tmp_path / "sent").mkdir()
    reference = ModelReference("mean", preprocessing, mean_and_negative)
    seen: list[int] = []
    pack(data, reference, tmp_path / "sent", seen.append)
    arrived = open_shipment(tmp_path / "sent")
    assert arrived.reference is not None
    assert arrived.reference.name == "mean"
    assert seen[-1] == 3
    (tmp_path / "there").mkdir()
    images = with_reference(
        spool(arrived.data, tmp_path / "there", keep=None, machine=""),
        arrived.reference,
        threads=1,
        timeout_seconds=60,
        on_image=seen.append,
    )
    assert images.preprocessing == preprocessing
    assert images.reference is not None
    found = images.reference[np.arange(3)]
    np.testing.assert_array_equal(found, [[10, -10], [20, -20], [30, -30]])


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        pack(ImageSet("one", [Sample("a", tmp_path / "absent.png", 0)]), None, tmp_path, len)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b"], ids=["none", "option", "two"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match=r"write pi@raspberrypi\.local"):
        Device(host, HERE)


@pytest.mark.parametrize("destination", ["pi@device", ":folder", "pi@device:"])
def test_where_to_deploy_is_a_host_and_a_folder(destination: str) -> None:
    with pytest.raises(UsageError, match=r"pi@raspberrypi\.local"):
        deploy(builtin.artifacts()[0], destination)


def write_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_ssh_is_quoted_in_one_line_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_program(tmp_path, "ssh", "echo 'ssh: no route to host' >&2; exit 255")
    write_program(tmp_path, "scp", "echo 'scp: no space left on device' >&2; exit 1")
    device = Device("pi@device", HERE)
    with pytest.raises(ConnectionLost, match="pi@device cannot be reached: ssh: no route to host"):
        device.run(["true"])
    with pytest.raises(ConnectionLost, match="no space left"):
        device.copy([tmp_path / "ssh"], HERE)
    write_program(tmp_path, "ssh", "echo 'line one'; echo 'it broke' >&2; exit 3")
    with pytest.raises(RemoteError, match="'true' failed on pi@device: it broke"):
        device.run(["true"])
