"""What vitedge itself wrote, and somebody may have edited: reports, journals, runs, labels."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import numpy as np

from tests.support.bench_rows import everything, make_report
from tests.support.fuzz.mutate.archive import mutate_archive
from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.npy import mutate_npy
from tests.support.fuzz.mutate.text import mutate_table
from tests.support.fuzz.parser import Parser, from_files
from vitedge.api.options import label_names
from vitedge.train.progress import Epoch

_RUN = {"epochs": "3", "images": "12 in 3 classes"}


def _reports() -> list[bytes]:
    report = make_report()
    whole = replace(report, rows=(everything(), *report.rows), thumbnails={"a.jpg": "data:x"})
    return [whole.to_json().encode()]


def _check(path: Path) -> None:
    from vitedge.check.junit import render_junit
    from vitedge.check.report_file import read_report
    from vitedge.check.rules import Limits, check, exit_code

    report = read_report(path)
    for baseline in (None, report):
        findings = check(report, baseline, Limits(0.5, 1.2 if baseline else None, True))
        exit_code(findings)
        render_junit(findings)


def _states() -> list[bytes]:
    about = {
        "run": _RUN,
        "history": [asdict(Epoch(1, 3, 2.0, 0.5, 0.4, 1e-3, 100.0, 3.0))],
        "kept_accuracy": 0.4,
    }
    content = io.BytesIO()
    arrays = {"state.0": np.zeros(3, np.float32), "kept.0": np.ones((2, 3), np.float32)}
    np.savez(content, about=np.array(json.dumps(about)), **arrays)
    return [content.getvalue()]


def _mutate_state(data: bytes, rng: Random) -> bytes:
    return mutate_archive(data, rng, _mutate_state_member)


def _mutate_state_member(name: str, content: bytes, rng: Random) -> bytes:
    if name != "about.npy" or rng.random() < 0.2:
        return mutate_npy(content, rng)
    text = str(np.lib.format.read_array(io.BytesIO(content))).encode()
    changed = io.BytesIO()
    np.save(changed, np.array(mutate_json(text, rng).decode("utf-8", "replace")))
    return changed.getvalue()


def _resume(path: Path) -> None:
    from vitedge.train.record import Record

    Record(path.parent, _RUN).read()


PARSERS = (
    Parser("report", from_files("report.json", _reports, mutate_json), _check),
    Parser("train-state", from_files("state.npz", _states, _mutate_state), _resume),
    Parser(
        "labels",
        from_files(
            "labels.txt", lambda: [b"cat\ndog\nfish\n", b"\xef\xbb\xbfa\r\nb\r\n"], mutate_table
        ),
        lambda path: print(len(label_names(path))),
    ),
)
