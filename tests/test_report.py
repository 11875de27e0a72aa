from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.bench_rows import FLIP, failed_row, make_report, make_row
from vitedge.bench.results import Ratio, Row, Status, Throughput, VsFloat, Window
from vitedge.report import render_html
from vitedge.report.points import front_of, labelled, timed_points
from vitedge.report.summary import summary
from vitedge.spec import Precision


def report_values(*rows: Row) -> dict[str, Any]:
    report = make_report()
    if rows:
        report = replace(report, rows=rows)
    values: dict[str, Any] = json.loads(report.to_json())
    return values


@pytest.fixture(params=["plain", "vega"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Renders without and, where it is installed, with the plotting library."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "vl_convert", None)
    else:
        pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    return str(request.param)


class _Reader(HTMLParser):
    """Collects element names, attributes that load something, and text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def test_the_page_loads_nothing_and_forbids_it(library: str) -> None:
    page = render_html(report_values())
    assert read(page).loads == []
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_what_comes_from_files_is_text_and_never_markup(library: str) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    row = make_row(artifact=f"{evil}.tflite", message=evil, source=evil)
    values = report_values(row, failed_row(Status.CRASHED, evil))
    values["command"] = values["reference"] = values["environment"]["cpu"] = evil
    page = render_html(values, title=evil)
    found = read(page)
    assert "img" not in found.tags
    assert found.tags.count("script") == (2 if library == "vega" else 0)
    assert found.text.count(evil) >= 5
    assert "<b>fish" not in page.replace("\\u003cb>fish", "")


def test_every_row_stands_in_the_page_with_its_status(library: str) -> None:
    text = read(render_html(report_values())).text
    for words in ("model.fp32.tflite", "SLOWER", "UNAVAILABLE", "emulated", "212/212", "110.2"):
        assert words in text
    assert "4 of 500 images (3 newly wrong, 1 newly right)" in text
    assert "unreadable image: torn.jpg" in text


def test_a_report_in_which_nothing_ran_is_still_a_page(library: str) -> None:
    page = render_html(report_values(failed_row(Status.CRASHED, "SIGILL")))
    assert "None of 1 measurement gave a time that counts." in page
    assert "<svg" not in page
    assert 'class="chart"' not in page


def test_rows_without_data_are_drawn_by_latency_alone(library: str) -> None:
    page = render_html(report_values(make_row(accuracy=None, vs_float=None)))
    assert page.count('class="chart"') == 1


def everything() -> Row:
    """A row measured in every way there is."""
    windows = tuple(Window(0.1 * step, 10.0 + step, 50, None, None) for step in range(1, 4))
    return make_row(
        ratio=Ratio("out/base", 0.37, 0.36, 0.39, 10),
        sustained=windows,
        throughput=(Throughput(1, 2, 90.0), Throughput(2, 1, 120.0)),
        energy_mj=55.0,
    )


def test_what_was_measured_over_time_and_in_turns_is_shown(library: str) -> None:
    page = render_html(report_values(everything()))
    assert "0.37 (0.36–0.39)" in page
    assert ">120<" in page
    assert ('id="sustained"' in page) == (library == "vega")


def test_flipped_images_have_thumbnails_that_can_be_nothing_but_images(library: str) -> None:
    values = report_values(make_row())
    values["thumbnails"] = {FLIP.image: "data:image/jpeg;base64,QUJD"}
    assert read(render_html(values)).loads == ["data:image/jpeg;base64,QUJD"]
    values["thumbnails"] = {FLIP.image: "https://example.org/spy.gif"}
    assert read(render_html(values)).loads == []


def test_the_summary_claims_no_speed_that_it_is_not_sure_of() -> None:
    base = make_row(27.0, artifact="base", precision=Precision.FP32)
    shaky = make_row(10.0, unstable="the median drifted")
    words = summary(report_values(base, shaky)["rows"])
    assert "as fast as" not in words
    assert "not quiet" in words
    in_turns = make_row(10.0, ratio=Ratio("base", 0.5, 0.4, 0.625, 10))
    words = summary(report_values(base, in_turns)["rows"])
    assert "2.00 x as fast as base (1.60 to 2.50)" in words


def test_labels_of_neighbours_do_not_lie_on_one_another() -> None:
    def row(median_ms: float, precision: Precision) -> Row:
        return make_row(median_ms, precision=precision)

    rows = [row(10, Precision.FP16), row(10.2, Precision.FP16), row(10.4, Precision.INT8)]
    above, below = labelled(timed_points(report_values(*rows, row(40, Precision.FP16))["rows"]))
    assert [point.precision for point in above] == ["fp16", "fp16"]
    assert [point.precision for point in below] == ["int8"]


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    def row(name: str, median_ms: float, agreement: float) -> Row:
        return make_row(
            median_ms, artifact=name, accuracy=None, vs_float=VsFloat(agreement, 20.0, 100)
        )

    rows = [row("slow", 30, 99), row("fast", 10, 97), row("beaten", 31, 98), row("best", 40, 100)]
    points = timed_points(report_values(*rows)["rows"])
    assert [point.label.split(",")[0] for point in front_of(points)] == ["fast", "slow", "best"]


def test_the_summary_names_the_fastest_that_is_faithful() -> None:
    unfaithful = VsFloat(80.0, 3.0, 500)
    rows = report_values(
        make_row(27.0, artifact="base", precision=Precision.FP32),
        make_row(10.0, artifact="good"),
        make_row(5.0, artifact="fast but wrong", vs_float=unfaithful),
        failed_row(Status.CRASHED, "SIGILL"),
    )["rows"]
    words = summary(rows)
    assert "good on tflite-cpu in 10.4 ms, 2.7 x as fast as its float32 self" in words
    assert "Of 4 measurements, 1 did not go well." in words
    assert "No artefact agrees" in summary(rows[2:3])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Moves the mouse over the largest point once Vega has drawn it, and leaves the tooltip's words
# where --dump-dom shows them.
HOVER = """
<script>
const poll = setInterval(() => {
  const points = [...document.querySelectorAll("#front .mark-symbol.role-mark path")];
  if (!points.length) return;
  clearInterval(poll);
  const box = points[0].getBoundingClientRect();
  const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
  for (const kind of ["pointerover", "mouseover", "pointermove", "mousemove"]) {
    points[0].dispatchEvent(new MouseEvent(kind, at));
  }
  setTimeout(() => {
    const tip = document.getElementById("vg-tooltip-element");
    document.body.dataset.tooltip = tip ? tip.innerText : "";
    document.body.dataset.overflow = document.documentElement.scrollWidth > innerWidth;
  }, 300);
}, 50);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with")
@pytest.mark.parametrize("width", [500, 800, 1280])
def test_in_a_browser_hovering_shows_the_row_and_nothing_overflows(
    width: int, tmp_path: Path
) -> None:
    pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    page = tmp_path / "report.html"
    # Vega's own code speaks of bodies too; the page's ends last.
    values = report_values(everything(), *make_report().rows[1:])
    before, end, after = render_html(values).rpartition("</body>")
    page.write_text(before + HOVER + end + after, "utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update"
    )
    finished = subprocess.run(
        [
            *(str(CHROMIUM), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (tooltip,) = re.findall(r'data-tooltip="([^"]*)"', finished.stdout)
    assert "model.int8.tflite, tflite-cpu" in tooltip
    assert "10.4 ms" in tooltip
    assert 'data-overflow="false"' in finished.stdout
