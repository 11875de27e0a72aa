from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from tests.support.bench_rows import make_report, make_row
from vitedge.report.csv_table import render_csv
from vitedge.report.markdown_table import render_markdown
from vitedge.report.quality import Drop, TaskMeasure, TaskQuality
from vitedge.report.results import LeftOut, Ratio, Report, Status, Throughput
from vitedge.report.shown import text_of
from vitedge.report.text_table import notes, render_table, without_room
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


def printed(report: Report, width: int) -> str:
    return text_of([render_table(report, width)], width)


def test_the_table_shows_every_row_with_its_numbers_and_status() -> None:
    text = printed(make_report(), 200)
    lines = {tuple(line.split()[:2]): line for line in text.splitlines() if "-" in line}
    good = lines["model.int8.tflite", "tflite-cpu"]
    assert {"86.4", "99.2", "25.1", "212/212", "OK"} <= set(good.split())
    assert "SLOWER" in lines["model.int8.onnx", "onnx-cpu"]
    assert "emulated" in lines["[bold]model.int8.onnx", "onnx-qnn"]
    assert "UNAVAILABLE" in lines["model.int8.tflite", "tflite-gpu"]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_narrow_terminal_loses_columns_but_no_line_breaks(width: int) -> None:
    text = printed(make_report(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for needed in ("artefact", "target", "p50 ms", "status"):
        assert needed in text
    rows = [line for line in text.splitlines() if "cpu" in line or "gpu" in line or "qnn" in line]
    assert len(rows) == 5
    everything = printed(make_report(), 400)
    for title in without_room(make_report(), width):
        assert title in everything
        assert title not in text
    assert bool(without_room(make_report(), width)) == (width < 200)


def test_times_in_turns_and_in_parallel_have_columns_when_measured() -> None:
    row = make_row(ratio=Ratio("base", 0.37, 0.36, 0.39, 10), throughput=(Throughput(1, 2, 90.0),))
    report = replace(make_report(), rows=(row,))
    text = printed(report, 200)
    assert "x fp32" in text
    assert {"0.37", "90.0"} <= set(text.split())
    (line,) = csv.DictReader(io.StringIO(render_csv(report)))
    assert (line["ratio.baseline"], line["ratio.low"]) == ("base", "0.36")


def test_markdown_is_a_table_that_names_cannot_break_out_of() -> None:
    row = make_row(artifact="a|b<img>*.tflite", message="see <script>")
    head, rule, line, *_ = render_markdown(replace(make_report(), rows=(row,))).splitlines()
    assert "a\\|b\\<img\\>\\*.tflite" in line
    assert "\\<script\\>" in render_markdown(replace(make_report(), rows=(row,)))
    cells = [len(re.split(r"(?<!\\)\|", part)) for part in (head, rule, line)]
    assert cells[0] == cells[1] == cells[2]
    assert "A CPU \\<with\\> brackets, 2 of 2 cores" in render_markdown(make_report())


def test_columns_that_are_empty_in_every_row_are_left_out() -> None:
    report = make_report()
    bare = replace(report, rows=(make_row(accuracy=None, vs_float=None),))
    text = printed(bare, 200)
    assert "top-1" not in text
    assert "agree" not in text


def test_the_notes_say_what_the_table_cannot() -> None:
    found = "\n".join(notes(make_report()))
    assert "out/model.int8.onnx on onnx-cpu: SLOWER: 1.10 x" in found
    assert "times are unstable: the median drifted" in found
    assert "1 of 501 images are unreadable: torn.jpg" in found
    left_out = (LeftOut("onnx-cuda", "missing", "no GPU"),)
    found = "\n".join(notes(replace(make_report(), left_out=left_out)))
    assert "not ready here: onnx-cuda (missing); `vitedge targets` says why" in found


def test_csv_has_one_flat_line_a_row_and_empty_cells_for_the_unknown() -> None:
    lines = list(csv.DictReader(io.StringIO(render_csv(make_report()))))
    assert len(lines) == 5
    first, *_, last = lines
    assert first["artifact"] == "out/model.int8.tflite"
    assert float(first["accuracy.top1"]) == 86.4
    assert float(first["latency_ms.p50"]) > 10
    assert first["latency_ms.p99"] == ""
    assert first["vs_float.flipped"] == "4"
    assert last["status"] == "UNAVAILABLE"
    assert last["latency_ms.p50"] == ""


def usual(**changes: object) -> Report:
    """A report of three artefacts on their own CPU targets, all well."""
    rows = [
        make_row(
            artifact=f"out/model.{precision}.{name}",
            target=kind.default_target,
            format=kind,
            precision=precision,
            status=Status.OK,
            message="",
            unstable=cause,
        )
        for name, kind, precision, cause in (
            ("onnx", Format.ONNX, Precision.INT8, "other programs had 82 % of the processors"),
            ("tflite", Format.TFLITE, Precision.INT8, "other programs had 9 % of the processors"),
            ("tflite", Format.TFLITE, Precision.FP32, "other programs had 10 % of the processors"),
        )
    ]
    return replace(make_report(), rows=tuple(rows), **changes)


def test_rows_stand_by_format_and_precision_and_what_is_as_usual_has_no_column() -> None:
    lines = printed(usual(), 80).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "model.fp32.tflite",
        "model.int8.tflite",
        "model.int8.onnx",
    ]
    heading = lines[0]
    assert "target" not in heading
    assert "status" not in heading
    assert {"MB", "SQNR", "agree", "top-1"} <= set(heading.split())
    assert "all 3 rows are OK" in str(usual())


def test_a_cause_that_all_rows_share_is_one_line() -> None:
    (found,) = [note for note in notes(usual()) if "unstable" in note]
    assert found == ("all times are unstable: other programs had 9 to 82 % of the processors")


def test_the_last_line_is_the_conclusion_of_the_page() -> None:
    assert str(usual()).splitlines()[-1].startswith("Fastest of those that agree with float32")


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("labels", "mAP is over 40 images of one label each: every other label"),
        ("float32", "mAP is over 40 images, whose right labels are those that float32 gives"),
    ],
)
def test_a_report_says_once_what_mean_average_precision_is_over(of: str, words: str) -> None:
    drop = Drop(0.5, 0.1, 0.9, 40)
    quality = TaskQuality("labels", 40, 30.0, (TaskMeasure("mAP", 51.0, "%", of),), drop, "mAP")
    row = make_row(accuracy=None, vs_float=None, task_quality=quality)
    report = replace(make_report(), rows=(row, replace(row, artifact="out/model.int4.tflite")))
    assert sum(words in note for note in notes(report)) == 1
    assert not any("mAP" in note for note in notes(make_report()))
