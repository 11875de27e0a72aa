"""Devices elsewhere: what needs no connection."""

from __future__ import annotations

import getpass
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

from tests.support.bench_rows import ENVIRONMENT, everything, make_report, make_row
from tests.support.task_artifacts import artifact_of, network_of_task
from vitedge.bench import builtin
from vitedge.bench.images import spool, with_reference
from vitedge.bench.reference import ModelReference
from vitedge.bench.run import BenchOptions
from vitedge.errors import DataError, UsageError, VitedgeError
from vitedge.files.dataclass_json import from_plain
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.machine.environment import Environment, throttling
from vitedge.network.tasks import Task
from vitedge.remote import conversation
from vitedge.remote.bench import RemoteBench
from vitedge.remote.conversation import BEGINNING
from vitedge.remote.deploy import deploy
from vitedge.remote.errors import ConnectionLost, RemoteError
from vitedge.remote.installation import upload
from vitedge.remote.journal import Journal, State
from vitedge.remote.shipment import open_shipment, pack
from vitedge.remote.ssh import SshDevice
from vitedge.remote.wheel import app_files, write_wheel
from vitedge.report.results import Row
from vitedge.terminal.printable import printable

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
        mine = Path(__file__).parents[3] / "vitedge" / "classifier.py"
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


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=x",
        "a b",
        "pi@-oProxyCommand=x",
        "h;touch x",
        "$(x)",
        "-l@h",
        "`x`",
        "a\n",
    ],
    ids=ascii,
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match=r"write pi@raspberrypi\.local"):
        SshDevice(host, HERE)


def test_ssh_does_not_reach_a_phone() -> None:
    with pytest.raises(UsageError, match="bench --host measures on it"):
        SshDevice("adb:R58M123ABC", HERE)


@pytest.mark.parametrize(
    "host", ["pi", "pi@raspberrypi.local", "10.0.0.7", "pi@fe80::1%eth0", "a_b-c"]
)
def test_what_is_a_host_is_taken(host: str) -> None:
    assert SshDevice(host, HERE).host == host


@pytest.mark.parametrize("folder", ["-rf", "~/x", "a;b", "$(x)", "a\nb", "*"])
def test_what_a_shell_would_change_is_no_folder(folder: str) -> None:
    with pytest.raises(UsageError, match="is not a folder that can be named on a device"):
        SshDevice("pi", PurePosixPath(folder))


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
    device = SshDevice("pi@device", HERE)
    with pytest.raises(ConnectionLost, match="pi@device cannot be reached: ssh: no route to host"):
        device.run(["true"])
    with pytest.raises(ConnectionLost, match="no space left"):
        device.copy([tmp_path / "ssh"], HERE)
    write_program(tmp_path, "ssh", "echo 'line one'; echo 'it broke' >&2; exit 3")
    with pytest.raises(RemoteError, match="'true' failed on pi@device: it broke"):
        device.run(["true"])


def test_a_file_name_is_neither_an_option_nor_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_program(tmp_path, "scp", f'printf "%s\\n" "$@" > {tmp_path}/arguments')
    monkeypatch.chdir(tmp_path)
    names = ["-oProxyCommand=touch x #.onnx", "a:b.onnx"]
    SshDevice("pi@fe80::1", HERE).copy(map(Path, names), PurePosixPath("there"))
    lines = (tmp_path / "arguments").read_text().splitlines()
    assert lines[lines.index("--") + 1 :] == [
        *(f"{tmp_path}/{name}" for name in names),
        "pi@[fe80::1]:there/",
    ]


def test_a_name_that_cannot_be_listed_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a\\nb' cannot be copied by that name"):
        upload(SshDevice("pi", HERE), [tmp_path / "a\nb"], HERE)


def test_what_a_shell_says_before_it_obeys_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # As sshd does: a shell that greets runs the last argument.
    greets = 'echo "Welcome, \033[31mPi\033[0m"; echo; for last; do :; done; sh -c "$last"'
    write_program(tmp_path, "ssh", greets)
    device = SshDevice("pi", HERE)
    assert device.run(["echo", "one"]) == "one"
    assert device.run(["cat"], text="x\n" * 50_000) == "\n".join(["x"] * 50_000)
    lines: list[str] = []
    assert device.run(["printf", "a\\nb\\n"], on_line=lines.append) == ""
    assert lines == ["a", "b"]
    assert device.run(["printf", "\\377"]) == "\ufffd"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("yes hello", "talks without end before it obeys"),
        (f"echo {BEGINNING}; yes ''", "only empty lines"),
        (f"echo {BEGINNING}; yes x", "talks without end"),
        (f"echo {BEGINNING}; cat /dev/zero", "a line without end"),
        ("yes no >&2 & sleep 1; kill $!; printf '\033[2Jwhy' >&2; exit 3", r"pi: \\x1b\[2Jwhy$"),
    ],
    ids=["greeting", "empty lines", "lines", "line", "errors"],
)
def test_endless_words_of_a_device_are_one_line(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(conversation, "_LONGEST_LINE", 1 << 20)
    write_program(tmp_path, "ssh", script)
    with pytest.raises(RemoteError, match=message) as caught:
        SshDevice("pi", HERE).run(["true"])
    assert printable(str(caught.value)) == str(caught.value)
    assert len(str(caught.value)) < 400


REPORT = json.loads(make_report().to_json())
STARTED = {"event": "started", "boot": "x", "parts": ["one"]}


def hostile_report(**row: object) -> dict[str, object]:
    changed = {**REPORT, "rows": [{**REPORT["rows"][0], **row}]}
    return {"event": "report", "part": 0, "report": changed}


@pytest.mark.parametrize(
    "events",
    [
        ["not json"],
        ["[" * 100_000],
        ['{"a": 1}'],
        ["7"],
        [json.dumps({**STARTED, "parts": 3})],
        [json.dumps({"event": "step", "step": {"row": "one"}})],
        [json.dumps({"event": "report", "part": 0, "report": {}})],
        [json.dumps({"event": "report", "part": "\x1b[2J", "report": {}})],
        [json.dumps(hostile_report(load_ms="\x1b[2J"))],
        [json.dumps(hostile_report(latency_ms=7))],
        [json.dumps(hostile_report(target="no target"))],
        [json.dumps(hostile_report(message=["a"]))],
        [json.dumps(hostile_report(size_mb=1)).replace('"size_mb": 1', '"size_mb": NaN')],
        [
            json.dumps(
                {**hostile_report(), "report": {**REPORT, "thumbnails": {"a": "https://x/a.png"}}}
            )
        ],
        [json.dumps({"event": "failed", "message": "\x1b[2J" + "x" * 10_000})],
    ],
    ids=range(15),
)
def test_whatever_a_device_answers_is_one_line(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    answers = [json.dumps(STARTED), *events, json.dumps({"event": "ended"})]
    (tmp_path / "answers").write_text("\n".join(answers) + "\n")
    script = f'echo {BEGINNING}; case "$*" in *follow*) cat {tmp_path}/answers;; esac'
    write_program(tmp_path, "ssh", script)
    write_program(tmp_path, "scp", "exit 0")
    bench = RemoteBench(SshDevice("pi", HERE), lambda *_: None, lambda _: None)
    with pytest.raises(VitedgeError) as caught:
        bench.run(
            builtin.artifacts()[:1], (), data=None, reference=None, options=BenchOptions(runs=1)
        )
    assert printable(str(caught.value)) == str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_artefact_that_names_nothing_is_not_deployed(tmp_path: Path) -> None:
    path = artifact_of(network_of_task(Task.MAP), tmp_path)
    with pytest.raises(UsageError, match="gives a map of the image, and the app names"):
        deploy(path, "pi@somewhere:camera")


def test_the_service_on_a_device_has_its_user_its_folder_and_its_artefact(tmp_path: Path) -> None:
    from vitedge.remote.placing import filled

    unit = app_files()["vitedge-camera.service"].read_text()
    found = filled(unit, tmp_path / "100 % cats", 'my "cats".tflite')
    place = f"{tmp_path.resolve()}/100 %% cats"
    assert f"\nUser={getpass.getuser()}\nWorkingDirectory={place}\n" in found
    started = f'ExecStart="{place}/venv/bin/python" app.py "my \\"cats\\".tflite" --host 0.0.0.0'
    assert f"\n{started}\n" in found
    comments = [[x for x in text.split("\n") if x.startswith("#")] for text in (unit, found)]
    assert comments[0] == comments[1]
