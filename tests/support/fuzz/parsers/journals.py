"""What a remote device says of a bench, line by line."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePosixPath
from random import Random
from types import SimpleNamespace
from typing import Any

from tests.support.bench_rows import make_report
from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.parser import Parser
from vitedge.bench.run import Step
from vitedge.errors import VitedgeError
from vitedge.remote.bench import RemoteBench, _Followed, _report, understanding
from vitedge.remote.journal import Journal
from vitedge.remote.ssh import SshDevice
from vitedge.report import render_html
from vitedge.report.csv_table import render_csv
from vitedge.report.markdown_table import render_markdown


def _silence(*_: object) -> None:
    pass


@cache
def _lines() -> tuple[bytes, ...]:
    """The events of a bench that ended well."""
    step = asdict(Step(1, 2, "measuring", 3, 10))
    report = json.loads(make_report().to_json())
    events = (
        {"event": "started", "boot": "b", "parts": ["tflite", "onnx"]},
        {"event": "begun", "part": 0},
        {"event": "step", "step": step},
        {"event": "report", "part": 0, "report": report},
        {"event": "begun", "part": 1},
        {"event": "report", "part": 1, "report": report},
        {"event": "ended"},
    )
    return tuple(json.dumps(event).encode() for event in events)


def _make(rng: Random, folder: Path) -> Path:
    lines = list(_lines())
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, rng.choice((b"", b"Welcome to Pi", b"[]", b"null", b"{}", b"1")))
            case _:
                lines[at] = mutate_json(lines[at], rng)
    content = b"\n".join(lines) + b"\n"
    path = folder / "events.jsonl"
    path.write_bytes(mutate_bytes(content, rng) if rng.random() < 0.1 else content)
    return path


def _follow(path: Path) -> None:
    """Takes the lines as they come from a device, then renders what they add up to."""
    device = SshDevice("pi@device", PurePosixPath("vitedge"))
    installation: Any = SimpleNamespace(device=device, python="python", digest="")
    followed = _Followed(RemoteBench(device, _silence, _silence), installation, device.folder)
    for line in path.read_text("utf-8", "replace").split("\n"):
        followed._take(line)
    state = followed._state
    if state.error:
        raise VitedgeError(state.error)
    if not state.ended:
        _ = state.current
        return
    with understanding(device.host, "its report"):
        report = _report(state, {})
    report.to_json()
    render_csv(report)
    render_markdown(report)
    render_html(report)


def _read_journal(path: Path) -> None:
    list(Journal(path.parent).read())


PARSERS = (
    Parser("remote-lines", _make, _follow),
    Parser("remote-journal", _make, _read_journal),
)
