"""The example app for the Raspberry Pi, with a folder as its camera, and its page in a browser."""

from __future__ import annotations

import io
import json
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from vitedge.bench import builtin

APP = Path(__file__).parents[2] / "examples" / "raspberry_pi"
ARTIFACT = next(path for path in builtin.artifacts() if path.suffix == ".tflite")
# Long enough for any busy machine, short enough to fail a test that hangs.
PATIENCE_S = 60


@dataclass(frozen=True)
class Running:
    """The app in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    def get(self, path: str) -> bytes:
        with urlopen(self.address + path, timeout=PATIENCE_S) as answer:
            return bytes(answer.read())


def write_digits(folder: Path, label: int, count: int) -> None:
    folder.mkdir()
    chosen = [each for each in builtin.images().samples if each.label == label][:count]
    for number, sample in enumerate(chosen):
        Image.fromarray(np.asarray(sample.image).squeeze()).save(folder / f"{number}.png")


def start(*arguments: str | Path, files: int = 1024) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # The system's limit on open files, as a shell sets it.
        [
            "sh",
            "-c",
            f'ulimit -n {files}; exec "$@"',
            "sh",
            sys.executable,
            APP / "app.py",
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Running]:
    write_digits(tmp_path / "sevens", 7, 3)
    process = start(
        *(ARTIFACT, "--source", tmp_path / "sevens", "--port", "0", "--seconds", "0.05"),
        *("--name", "camera.example", "--threads", "1"),
        files=64,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    line = process.stdout.readline() if ready else ""
    address = re.search(r"http://\S+:\d+", line)
    assert address is not None, f"{line!r} {process.stderr.read() if not line else ''}"
    yield Running(process, address[0])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert errors == ""


def test_it_names_what_the_camera_sees_and_ends_when_told(app: Running) -> None:
    first = json.loads(app.get("/answer.json"))
    assert first["model"] == ARTIFACT.name
    # The int8 model knows 98.6 % of digits; these three sevens are among them.
    assert first["classes"][0]["label"] == "7"
    assert sum(each["share"] for each in first["classes"]) <= 1 + 1e-5
    later = json.loads(app.get(f"/answer.json?after={first['number'] + 2}"))
    assert later["number"] > first["number"] + 2
    assert later["frames_per_second"] > 0


def test_the_page_has_the_picture_alone_and_the_window_has_its_label(
    app: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A square digit, as wide as the page wants it; the page says the label itself.
    picture = Image.open(io.BytesIO(app.get("/picture.jpg")))
    assert picture.size == (640, 640)
    monkeypatch.syspath_prepend(str(APP))
    from picture import labelled

    shown = labelled(picture, [("7", 0.98)])
    assert shown.size == (640, 640 + 44)
    bar = np.asarray(shown.convert("L").crop((0, 640, 640, 684)))
    # White letters on dark ground: the label at the left, the share at the right.
    assert bar[:, :60].max() > 200
    assert bar[:, -80:].max() > 150
    assert bar[:, 200:400].max() < 60


def test_it_says_the_label_the_milliseconds_and_the_temperature(app: Running) -> None:
    answer = json.loads(app.get("/answer.json"))
    assert answer["inference_ms"] > 0
    assert answer["temperature_c"] is None or -50 < answer["temperature_c"] < 150
    app.get(f"/answer.json?after={answer['number']}")  # the first frame's line is printed by then
    app.process.send_signal(signal.SIGTERM)
    assert app.process.stdout is not None
    assert re.match(r"\d+\.\d%  7  \(\d+\.\d ms\)\n", app.process.stdout.read())


# The rest of a request after which the app closes the connection.
LAST = "\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ask(app: Running, request: bytes, seconds: float = PATIENCE_S) -> bytes:
    """What the app answers to raw bytes until it closes the connection."""
    port = int(app.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("192.168.1.5", 200),
        ("[fe80::1]:80", 200),
        ("localhost:1", 200),
        (f"{socket.gethostname().upper()}.local.", 200),
        ("camera.example:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1:8000@evil.example", 421),
        ("", 421),
        (None, 400),
    ],
)
def test_only_its_own_names_are_answered(app: Running, host: str | None, status: int) -> None:
    named = "" if host is None else f"Host: {host}\r\n"
    answer = ask(app, f"GET /picture.jpg HTTP/1.1\r\n{named}Connection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"\xff\xd8" in answer) == (status == 200)


def test_every_answer_says_what_the_page_may_do(app: Running) -> None:
    for path in ("/", "/answer.json", "/nowhere"):
        head = ask(app, f"GET {path} HTTP/1.1{LAST}".encode())
        policy = re.search(rb"Content-Security-Policy: ([^\r]+)", head)
        assert policy is not None, path
        assert policy[1].startswith(
            b"default-src 'none'; connect-src 'self'; img-src 'self' data:;"
        )
        assert b"unsafe" not in policy[1]
        assert b"frame-ancestors 'none'" in policy[1]
        assert b"X-Content-Type-Options: nosniff" in head
        assert b"Python" not in head


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /answer.json?after=" + b"9" * 5000 + b" HTTP/1.1" + LAST.encode(),
        b"GET http://[x/ HTTP/1.1" + LAST.encode(),
        b"GET /?" + b"a=1&" * 10_000 + b" HTTP/1.1" + LAST.encode(),
        b"\0\xff\xfe\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["number", "address", "query", "garbage", "method"],
)
def test_a_malformed_request_is_answered_and_nothing_is_printed(
    app: Running, request_: bytes
) -> None:
    # What it prints, the fixture looks at.
    assert ask(app, request_)
    assert app.get("/answer.json")


def test_a_crowd_that_says_nothing_keeps_nobody_out(app: Running) -> None:
    port = int(app.address.rpartition(":")[2])
    place = Path(f"/proc/{app.process.pid}")
    crowd = []
    try:
        for _ in range(100):  # under a limit of 64 files
            crowd.append(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            crowd[-1].sendall(b"GET / HTTP/1.1\r\nX: ")
        assert json.loads(app.get("/answer.json"))["classes"]
        if place.is_dir():  # Linux
            assert len(list((place / "fd").iterdir())) < 64
            assert len(list((place / "task").iterdir())) < 64
    finally:
        for each in crowd:
            each.close()
    assert app.process.poll() is None


def test_a_label_with_a_line_break_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(APP))
    from picture import labelled

    assert labelled(Image.new("L", (8, 8)), [("a\n\x1b[2J", 0.9)]).size == (640, 684)


def test_other_addresses_are_not_found(app: Running) -> None:
    with pytest.raises(OSError, match="404"):
        app.get("/etc/passwd")


def test_the_page_shows_picture_and_classes_in_a_browser(app: Running, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium, which is not installed (apt install chromium)")
    screenshot = tmp_path / "page.png"
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    common += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,800"]
    # In the browser's own time; the page itself never stops asking for more.
    common += ["--virtual-time-budget=4000", f"--screenshot={screenshot}", "--dump-dom"]
    done = subprocess.run(
        [*common, app.address], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    classes = re.search(r'<ol id="classes">.*?</ol>', done.stdout, re.DOTALL)
    assert classes is not None, done.stdout
    assert re.findall(r"<span>(\d)</span>", classes[0])[0] == "7"
    # The label is said once.
    assert len(re.findall(r">7<", done.stdout)) == 1
    assert done.stdout.count('class="bar"') == 5
    assert ARTIFACT.name in done.stdout
    page = np.asarray(Image.open(screenshot).convert("L"), np.int16)
    assert page.shape == (800, 1100)
    # The digit fills the left column in greys of its own.
    assert page[100:500, 40:600].std() > 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.tflite"], "Error: there is no file 'absent.tflite'"),
        ([ARTIFACT, "--source", "absent"], "Error: there is no folder 'absent'"),
        ([ARTIFACT, "--source", "99"], "Error: "),
    ],
    ids=["no artefact", "no folder", "no camera"],
)
def test_what_is_missing_is_one_line(arguments: list[str], message: str) -> None:
    process = start(*arguments, "--port", "0")
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(message)
    assert said == ""  # nobody is told to watch what cannot be seen
    assert "Traceback" not in errors


def test_a_port_that_is_in_use_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "digit.png")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start(ARTIFACT, "--source", str(tmp_path), "--port", port)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        f"Error: port {port} is in use: end what uses it, or give another with --port"
    )


def test_the_window_shows_the_label_and_its_closing_ends_the_app(tmp_path: Path) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    if shutil.which("xvfb-run") is None:
        pytest.skip("needs a screen: xvfb-run is not installed (apt install xvfb)")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from PIL import Image; from picture import labelled; from window import Window\n"
        "window = Window(); picture = labelled(Image.new('L', (8, 8)), [('seven', 0.9)])\n"
        "assert window.show(picture)\n"
        "window._root.focus_force(); window.show(picture)\n"
        "window._root.event_generate('<Escape>', when='now'); assert not window.show(picture)\n"
    )
    subprocess.run(
        ["xvfb-run", "-a", sys.executable, "-c", program, APP], check=True, timeout=PATIENCE_S
    )


def test_without_a_screen_the_window_says_so(tmp_path: Path) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    write_digits(tmp_path / "sevens", 7, 1)
    process = subprocess.run(
        [
            sys.executable,
            APP / "app.py",
            ARTIFACT,
            "--source",
            tmp_path / "sevens",
            "--port",
            "0",
            "--window",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert process.returncode == 1
    assert "there is no screen for --window" in process.stderr


def test_a_service_starts_the_very_app() -> None:
    unit = (APP / "vitedge-camera.service").read_text()
    command = re.search(r"^ExecStart=\"\S+/python\" (.+)$", unit, re.MULTILINE)
    assert command is not None
    script, *arguments = command[1].split()
    assert (APP / script).is_file()
    done = subprocess.run(
        [sys.executable, APP / script, "--help"], capture_output=True, text=True, check=True
    )
    for argument in arguments:
        assert not argument.startswith("--") or argument in done.stdout
