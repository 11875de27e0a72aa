"""What passes and what fails, from reports as the bench writes them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.bench_rows import ENVIRONMENT, failed_row, make_row
from vitedge.bench.spread import unpaired_drop, wilson_interval
from vitedge.cli import main
from vitedge.report.quality import Accuracy, Drop, TaskMeasure, TaskQuality
from vitedge.report.results import DataUsed, Ratio, Report, Row, Status
from vitedge.runtimes import Placement
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

IMAGES = 1000
DATA = DataUsed("validation", IMAGES, (), "1" * 64)


def accuracy(right: int, first: int = 0) -> Accuracy:
    """So many images right, from ``first`` on."""
    bits = np.zeros(IMAGES, bool)
    bits[first : first + right] = True
    encoded = base64.b64encode(np.packbits(bits).tobytes()).decode()
    low, high = wilson_interval(right, IMAGES)
    return Accuracy(100 * right / IMAGES, 99.0, IMAGES, low, high, encoded)


def write(path: Path, *rows: Row, data: DataUsed | None = DATA, cpu: str = "one") -> Path:
    report = Report(replace(ENVIRONMENT, cpu=cpu), rows, data, "model.keras")
    path.write_text(report.to_json())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def ratio(median: float) -> Ratio:
    return Ratio("out/model.fp32.tflite", median, median, median, 10)


GOOD = make_row(accuracy=accuracy(860), placement=Placement(5, 5))


@dataclass(frozen=True)
class Case:
    """A row before and after, and what comes of it."""

    id: str
    now: Row
    arguments: tuple[str, ...]
    exit_code: int
    words: str
    before: Row = GOOD
    now_cpu: str = "one"


def broken(status: Status) -> Row:
    return failed_row(status, "SIGSEGV (Segmentation fault)")


CASES = [
    Case("the same", GOOD, ("--max-drop", "0", "--max-slowdown", "1"), 0, "0 of 3 checks failed"),
    *(
        Case(status, broken(status), ("--max-drop", "1"), 1, f"{status}: SIGSEGV")
        for status in (Status.CRASHED, Status.TIMEOUT, Status.ERROR)
    ),
    Case(
        "no longer there", broken(Status.UNAVAILABLE), (), 1, "UNAVAILABLE: SIGSEGV (Segmentation"
    ),
    Case("never there", broken(Status.UNAVAILABLE), (), 0, "0 of 1", broken(Status.UNAVAILABLE)),
    Case(
        "less accurate",
        replace(GOOD, accuracy=accuracy(854)),
        ("--max-drop", "0.5"),
        3,
        # Six images are right no longer and none is anew: Agresti and Min's interval by hand is
        # 6/1002 -+ 1.96 sqrt(7 - 36/1002) / 1002.
        "0.60 points less of top-1 than before (95 %: +0.1 to +1.1 points lost, 1000 images)",
    ),
    Case(
        "little less accurate", replace(GOOD, accuracy=accuracy(855)), ("--max-drop", "0.5"), 0, ""
    ),
    Case(
        "other images right",
        replace(GOOD, accuracy=accuracy(860, first=100)),
        ("--max-drop", "0.5"),
        0,
        "no less of top-1 than before (95 %: -2.8 to +2.8",
    ),
    Case("more accurate", replace(GOOD, accuracy=accuracy(900)), ("--max-drop", "0"), 0, "more of"),
    Case("no accuracy", replace(GOOD, accuracy=None), ("--max-drop", "5"), 3, "bench with --data"),
    Case(
        "drifted",
        replace(GOOD, status=Status.DRIFT, message="3 dB"),
        (),
        3,
        "DRIFT: 3 dB",
    ),
    Case(
        "slower", make_row(13.0), ("--max-slowdown", "1.2"), 4, "1.30 x; at most 1.2 x", make_row()
    ),
    Case("little slower", make_row(11.0), ("--max-slowdown", "1.2"), 0, "1.10 x", make_row()),
    Case(
        "no times",
        make_row(latency_ms=None, samples_ms=()),
        ("--max-slowdown", "1.2"),
        4,
        "no times, but the baseline has some",
    ),
    Case(
        "a ratio in turns is compared across machines",
        make_row(50.0, ratio=ratio(0.5)),
        ("--max-slowdown", "1.2"),
        0,
        "0.50 x the time of float32 in turns, before 0.48: 1.04 x",
        make_row(ratio=ratio(0.48)),
        now_cpu="another",
    ),
    Case(
        "a worse ratio fails though the machine is faster",
        make_row(5.0, ratio=ratio(0.6)),
        ("--max-slowdown", "1.2"),
        4,
        "1.25 x",
        make_row(ratio=ratio(0.48)),
        now_cpu="another",
    ),
    Case(
        "times of another machine cannot be compared",
        make_row(),
        ("--max-slowdown", "1.2"),
        4,
        "times of different machines are compared only as ratios",
        make_row(),
        now_cpu="another",
    ),
    Case(
        "float32 on another machine has no ratio to check",
        make_row(precision=Precision.FP32),
        ("--max-slowdown", "1.2"),
        0,
        "other times",
        make_row(precision=Precision.FP32),
        now_cpu="another",
    ),
    Case(
        "off the device",
        replace(GOOD, status=Status.FALLBACK, placement=Placement(4, 5)),
        ("--require-device",),
        5,
        "4 of 5 nodes ran on cpu",
    ),
    Case(
        "off the device, and allowed",
        replace(GOOD, status=Status.FALLBACK, placement=Placement(4, 5)),
        (),
        0,
        "not required",
    ),
    Case("on the device", GOOD, ("--require-device",), 0, "5 of 5 nodes ran on cpu"),
    Case(
        "several failures exit with the smallest code",
        replace(make_row(20.0), accuracy=accuracy(1), status=Status.FALLBACK),
        ("--max-drop", "0.5", "--max-slowdown", "1.2", "--require-device"),
        3,
        "3 of 4 checks failed",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_report_is_held_against_its_baseline(case: Case, tmp_path: Path) -> None:
    report = write(tmp_path / "new.json", case.now, cpu=case.now_cpu)
    baseline = write(tmp_path / "old.json", case.before)
    result = run(report, "--baseline", baseline, *case.arguments)
    assert case.words in result.output
    assert result.exit_code == case.exit_code, result.output


WORSE = replace(make_row(20.0), accuracy=accuracy(700))


def test_a_baseline_without_limits_is_held_by_the_default_ones(tmp_path: Path) -> None:
    baseline = write(tmp_path / "old.json", GOOD)
    worse = run(write(tmp_path / "worse.json", WORSE), "--baseline", baseline)
    assert worse.exit_code == 3
    assert "at most 0.5 may be lost" in worse.output
    assert "at most 1.2 x" in worse.output
    assert "2 of 3 checks failed" in worse.output
    same = run(write(tmp_path / "same.json", GOOD), "--baseline", baseline)
    assert same.exit_code == 0
    assert (
        "checked: run (1 of 1 rows), accuracy (1 of 1 rows), latency (1 of 1 rows)" in same.output
    )
    assert "not checked: device (give --require-device)" in same.output


def test_one_limit_alone_leaves_the_other_out_and_says_so(tmp_path: Path) -> None:
    baseline = write(tmp_path / "old.json", GOOD)
    slow = run(
        write(tmp_path / "slow.json", replace(make_row(20.0), accuracy=accuracy(860))),
        *("--baseline", baseline, "--max-drop", "1"),
    )
    assert slow.exit_code == 0
    assert "not checked: latency (give --baseline and --max-slowdown)" in slow.output


def test_what_default_limits_cannot_compare_is_skipped_not_failed(tmp_path: Path) -> None:
    baseline = write(tmp_path / "old.json", replace(GOOD, accuracy=None))
    result = run(write(tmp_path / "new.json", GOOD, cpu="another"), "--baseline", baseline)
    assert result.exit_code == 0, result.output
    assert "skipped accuracy" in result.output
    assert "skipped latency" in result.output
    assert "checked: run (1 of 1 rows); not checked: accuracy (nothing to compare)" in result.output


def test_a_report_alone_says_that_only_its_runs_were_checked(tmp_path: Path) -> None:
    result = run(write(tmp_path / "new.json", GOOD))
    assert result.exit_code == 0
    assert (
        "checked: run (1 of 1 rows); not checked: accuracy (give --max-drop or --limit)"
        in result.output
    )


def test_a_device_other_than_the_processor_must_tell_where_nodes_ran(tmp_path: Path) -> None:
    row = replace(GOOD, target=Target("openvino", "gpu"), placement=None)
    result = run(write(tmp_path / "new.json", row), "--require-device")
    assert result.exit_code == 5
    assert "does not tell which nodes ran on gpu" in result.output


def test_without_a_baseline_the_drop_is_against_float32(tmp_path: Path) -> None:
    assert GOOD.vs_float is not None
    row = replace(GOOD, vs_float=replace(GOOD.vs_float, drop=Drop(0.6, -0.3, 1.5, 500)))
    report = write(tmp_path / "new.json", row)
    assert run(report, "--max-drop", "0.7").exit_code == 0
    failed = run(report, "--max-drop", "0.5")
    assert failed.exit_code == 3
    assert "0.60 points less of top-1 than float32 (95 %: -0.3 to +1.5" in failed.output


def test_on_other_images_the_interval_is_wider_and_the_words_say_so(tmp_path: Path) -> None:
    now = replace(GOOD, accuracy=accuracy(854))
    report = write(tmp_path / "new.json", now, data=replace(DATA, sha256="2" * 64))
    result = run(report, "--baseline", write(tmp_path / "old.json", GOOD), "--max-drop", "5")
    assert result.exit_code == 0
    assert "1000 images, on other images" in result.output
    assert "-2.5 to +3.7 points lost" in result.output


def test_the_interval_on_other_images_is_newcombes() -> None:
    # The example of Newcombe (1998), table II(a): 56/70 against 48/80.
    before, now = (
        (100 * right / n, *wilson_interval(right, n)) for right, n in ((56, 70), (48, 80))
    )
    drop = unpaired_drop(before, now, 80)
    assert (drop.points, drop.low, drop.high) == pytest.approx((20.0, 5.24, 33.39), abs=0.01)


def test_a_row_that_is_gone_fails_and_a_new_one_is_no_regression(tmp_path: Path) -> None:
    other = replace(GOOD, artifact="out/other.int8.tflite")
    baseline = write(tmp_path / "old.json", GOOD)
    more = run(write(tmp_path / "more.json", GOOD, other), "--baseline", baseline, "--max-drop", 1)
    assert more.exit_code == 0
    assert "other.int8.tflite on tflite-cpu: not in the baseline" in more.output
    gone = run(write(tmp_path / "gone.json", other), "--baseline", baseline)
    assert gone.exit_code == 1
    assert "is in the baseline, but not in the report" in gone.output


def test_reports_of_one_build_in_another_folder_are_compared_row_by_row(tmp_path: Path) -> None:
    moved = replace(GOOD, artifact="elsewhere/deep/model.int8.tflite")
    report = write(tmp_path / "new.json", moved)
    assert run(report, "--baseline", write(tmp_path / "old.json", GOOD)).exit_code == 0


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("{}", (), "not a report of vitedge bench --json"),
        ("[", (), "cannot read the report"),
        (None, (), "cannot read the report"),
        ("good", ("--max-slowdown", "1.2"), "give --baseline"),
        ("good", ("--max-drop", "-1"), "--max-drop"),
        ("good", ("--baseline", "nowhere.json"), "cannot read the report 'nowhere.json'"),
    ],
    ids=["no report", "no JSON", "missing", "no baseline", "negative", "missing baseline"],
)
def test_a_request_that_makes_no_sense_exits_2(
    text: str | None, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    if text == "good":
        write(path, GOOD)
    elif text is not None:
        path.write_text(text)
    result = run(path, *arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_junit_has_a_case_for_every_check_whatever_vendors_print(tmp_path: Path) -> None:
    crashed = replace(broken(Status.CRASHED), message="\x1b[31m<fault> & more\x1b[0m")
    report = write(tmp_path / "new.json", GOOD, replace(crashed, target=Target("tflite", "gpu")))
    junit = tmp_path / "junit.xml"
    result = run(report, "--require-device", "--junit", junit)
    assert result.exit_code == 1
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "0")
    passed, _, failed = suite
    assert passed.get("name") == "model.int8.tflite run"
    assert failed.get("classname") == "tflite-gpu"
    failure = failed.find("failure")
    assert failure is not None
    assert "<fault> & more" in str(failure.get("message"))
    again = run(report, "--junit", junit)
    assert again.exit_code == 2
    assert "--force" in again.output


def test_checks_can_be_read_by_programs(tmp_path: Path) -> None:
    import json

    result = run(write(tmp_path / "new.json", GOOD), "--json")
    (finding,) = json.loads(result.stdout)
    assert (finding["kind"], finding["outcome"], finding["target"]) == (
        "run",
        "passed",
        "tflite-cpu",
    )


def test_a_report_of_as_many_images_in_another_set_is_not_paired(tmp_path: Path) -> None:
    """Two reports that name the same images, one of them edited: a longer list of what is right."""
    longer = replace(accuracy(80), right=base64.b64encode(bytes(200)).decode())
    report = write(tmp_path / "report.json", replace(GOOD, accuracy=accuracy(80)))
    baseline = write(tmp_path / "old.json", replace(GOOD, accuracy=longer))
    result = run(report, "--baseline", baseline, "--max-drop", "1")
    assert result.exit_code == 3
    assert "has no accuracy" in result.output


EMBEDDING = make_row(
    accuracy=None,
    vs_float=None,
    task_quality=TaskQuality(
        "embedding",
        100,
        31.5,
        (
            TaskMeasure("cosine", 0.993, "", "float32"),
            TaskMeasure("recall@1", 96.0, "%", "float32"),
            TaskMeasure("R²", 0.97, "", "float32"),
        ),
        Drop(4.0, 1.0, 7.0, 100),
        "recall@1",
    ),
)


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        ("cosine>=0.99", True),
        ("cosine >= 0.995", False),
        ("Recall@1>=95", True),
        ("R2>=0.98", False),
        ("SQNR>=30", True),
        ("SQNR<=30", False),
        ("cosine<=1e0", True),
    ],
)
def test_any_measure_of_a_report_can_be_limited(limit: str, passes: bool, tmp_path: Path) -> None:
    result = run(write(tmp_path / "now.json", EMBEDDING), "--limit", limit)
    assert result.exit_code == (0 if passes else 3), result.output
    assert "checked: run (1 of 1 rows), accuracy (1 of 1 rows)" in result.output


def test_top_one_can_be_limited_and_every_limit_counts(tmp_path: Path) -> None:
    report = write(tmp_path / "now.json", GOOD)
    assert run(report, "--limit", "top-1>=86").exit_code == 0
    both = run(report, "--limit", "top-1>=86", "--limit", "top-5>=99.5")
    assert both.exit_code == 3
    assert "top-5 is 99, at least 99.5 is asked for" in both.output


def test_a_measure_that_misses_its_limit_by_little_is_shown_in_more_digits(tmp_path: Path) -> None:
    # It said: cosine is 1, at least 1 is asked for.
    quality = EMBEDDING.task_quality
    assert quality is not None
    measures = (TaskMeasure("cosine", 0.999987654, "", "float32"),)
    row = replace(EMBEDDING, task_quality=replace(quality, measures=measures))
    result = run(write(tmp_path / "now.json", row), "--limit", "cosine>=1")
    assert result.exit_code == 3
    assert "cosine is 0.99999, at least 1 is asked for" in result.output
    assert measures[0].shown == "0.99999"
    assert replace(measures[0], value=1.0).shown == "1"


def test_outputs_that_are_equal_to_the_bit_have_any_ratio_of_signal_to_noise(
    tmp_path: Path,
) -> None:
    row = replace(EMBEDDING, task_quality=replace(EMBEDDING.task_quality, sqnr_db=None))
    assert run(write(tmp_path / "now.json", row), "--limit", "SQNR>=90").exit_code == 0


def test_a_measure_that_the_report_does_not_have_fails(tmp_path: Path) -> None:
    result = run(write(tmp_path / "now.json", EMBEDDING), "--limit", "mAP>=40")
    assert result.exit_code == 3
    assert "no 'mAP' of it; its measures are SQNR, cosine, recall@1, R²" in result.output
    bare = run(
        write(tmp_path / "bare.json", make_row(accuracy=None, vs_float=None)),
        "--limit",
        "cosine>=0.9",
    )
    assert bare.exit_code == 3
    assert "its measures are none: bench with --data and --reference" in bare.output


@pytest.mark.parametrize("limit", ["cosine", "cosine>0.9", "cosine>=much", ">=1", "cosine>=1.2.3"])
def test_a_limit_of_another_form_is_refused(limit: str, tmp_path: Path) -> None:
    result = run(write(tmp_path / "now.json", EMBEDDING), "--limit", limit)
    assert result.exit_code == 2
    assert "as 'cosine>=0.99', not" in result.output
