"""Foreign text in every output: labels, file names, messages of engines."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.bench_rows import make_report, make_row
from vitedge.bench import builtin
from vitedge.check.junit import render_junit
from vitedge.check.rules import Finding, Kind, Outcome
from vitedge.report import render_html
from vitedge.report.csv_table import render_csv
from vitedge.report.markdown_table import render_markdown
from vitedge.report.text_table import notes
from vitedge.terminal.printable import json_text, one_line, printable

ARTIFACT = next(path for path in builtin.artifacts() if path.suffix == ".onnx")

HOSTILE = (
    "\x1b]0;PWNED\x07\x1b[2J\x1b[31m",
    "[/x]",
    "[bold red]x[/]",
    "<img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "a\nb|c",
    "\u202eevil",
    "\r overwritten",
    "\x9b31mred",
    "\udcff\ufffe\u2028",
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Käse, 猫 and 👩\u200d🍳 \\", "Käse, 猫 and 👩\u200d🍳 \\"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\n\tb\x7f\x9b", r"a\r\n\tb\x7f\x9b"),
        ("\u202ex\u2066\ufeff\u2028", r"\u202ex\u2066\ufeff\u2028"),
        ("\udcff", r"\udcff"),
        ("\ufffe", r"\ufffe"),
        ("\U000e0041", r"\U000e0041"),
    ],
    ids=["writing", "escape", "controls", "direction", "lone surrogate", "no character", "tag"],
)
def test_what_is_no_writing_is_spelt(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_a_printable_text_is_one_line_that_can_be_encoded_and_stays(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    ElementTree.fromstring(f"<a>{shown.replace('&', '').replace('<', '')}</a>")
    assert printable(shown) == shown


@given(st.text())
def test_json_reads_back_to_the_same_and_is_printable(text: str) -> None:
    written = json_text({"label": text, "more": [text]})
    assert json.loads(written) == {"label": text, "more": [text]}
    assert all(printable(line) == line for line in written.split("\n"))


def test_one_line_is_bounded() -> None:
    assert one_line("  a\n\n b\x1b ") == r"a b\x1b"
    assert len(one_line("\x1b" * 10_000_000)) == 300


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An artefact with such labels, under such a name."""
    model = onnx.load(ARTIFACT)
    for entry in model.metadata_props:
        if entry.key == "vitedge":
            values = json.loads(entry.value)
            # Lone surrogates do not survive protobuf's strings.
            values["labels"] = [*HOSTILE[:-1], "\u2028"]
            values["source"]["name"] = "[/x]\x1b[2J"
            entry.value = json.dumps(values)
    path = tmp_path / "[\x1b[31m=x].onnx"
    onnx.save(model, path)
    return path


def on_a_terminal(*arguments: str | Path) -> bytes:
    """What a command writes to stdout and stderr that are a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "vitedge", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    ):
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # Linux's word for the end of a terminal
            pass
    os.close(ours)
    return seen


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["inspect", "predict", "predict --json", "inspect absent"])
def test_a_terminal_gets_no_escape_of_a_label_or_a_name(
    command: str, hostile: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "i.png")
    name, *options = command.split()
    if "absent" in options:
        seen = on_a_terminal(name, str(hostile) + "absent")
    else:
        images = [tmp_path / "i.png", "--top", "10"] if name == "predict" else []
        seen = on_a_terminal(name, hostile, *images, *options)
    assert b"Traceback" not in seen
    assert b"x1b" in seen or b"u001b" in seen
    assert b"\x1b" not in seen
    assert b"\x07" not in seen
    assert "\u202e".encode() not in seen
    assert "\x9b".encode() not in seen


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_report_of_any_name_is_harmless_in_every_form(name: str) -> None:
    report = replace(make_report(), rows=(make_row(artifact=name, message=name),))
    for text in (render_markdown(report), report.to_json(), *notes(report)):
        text.encode()
        assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2028"} & set(text)
    (table,) = [line for line in render_markdown(report).splitlines() if line.startswith("| ")][2:]
    assert table.count("|") - table.count(r"\|") == render_markdown(report).split("\n")[0].count(
        "|"
    )
    cells = [cell for line in csv.reader(io.StringIO(render_csv(report))) for cell in line]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r")]
    page = render_html(report)
    page.encode()
    assert "<img src=x" not in page
    junit = render_junit((Finding(name, name, Kind.RUN, Outcome.FAILED, name),))
    assert ElementTree.fromstring(junit).tag == "testsuites"
    junit.encode()
