from __future__ import annotations

import itertools
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.support.bench_rows import (
    FLIP,
    compared_layers,
    everything,
    failed_row,
    make_report,
    make_row,
)
from vitedge.report import render_html
from vitedge.report.colours import (
    DARK_PAPER,
    LEAST_CONTRAST,
    LIGHT_PAPER,
    contrast,
    mark,
    readable,
)
from vitedge.report.label_places import WIDTHS, Spot, place_labels
from vitedge.report.points import front_of, label_of, quality_title, timed_points
from vitedge.report.quality import Confusion, Drop, VsFloat
from vitedge.report.results import LayerError, MadeBy, Pick, Ratio, Report, Row, Status
from vitedge.report.summary import summary
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

# Places of points in a chart: the share of its width, and pixels from its top.
CROWD = [(0.3, 100.0), (0.33, 104.0), (0.36, 99.0), (0.8, 100.0), (0.97, 101.0), (0.5, 330.0)]


def report_of(*rows: Row, **changes: Any) -> Report:
    return replace(make_report(), **({"rows": rows} if rows else {}), **changes)


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
    page = render_html(report_of())
    assert read(page).loads == []
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_what_comes_from_files_is_text_and_never_markup(library: str) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    row = make_row(artifact=f"{evil}.tflite", message=evil, source=evil)
    report = report_of(row, failed_row(Status.CRASHED, evil), command=evil, reference=evil)
    report = replace(report, environment=replace(report.environment, cpu=evil))
    page = render_html(report, title=evil)
    found = read(page)
    assert "img" not in found.tags
    assert found.tags.count("script") == (3 if library == "vega" else 1)
    assert found.text.count(evil) >= 5
    assert "<b>fish" not in page.replace("\\u003cb>fish", "")


def test_every_row_stands_in_the_page_with_its_status(library: str) -> None:
    text = read(render_html(report_of())).text
    for words in ("model.fp32.tflite", "SLOWER", "UNAVAILABLE", "emulated", "212/212", "110.2"):
        assert words in text
    assert "4 of 500 images (3 newly wrong, 1 newly right)" in text
    assert "unreadable image: torn.jpg" in text


def test_what_makes_the_machine_unsteady_is_among_what_to_know(library: str) -> None:
    words = "the frequency governor is 'ondemand'"
    machine = replace(make_report().environment, warnings=(words,))
    assert words in read(render_html(report_of(environment=machine))).text


def test_a_report_in_which_nothing_ran_is_still_a_page(library: str) -> None:
    page = render_html(report_of(failed_row(Status.CRASHED, "SIGILL")))
    assert "None of 1 measurement gave a time that counts." in page
    assert "<svg" not in page
    assert 'class="chart"' not in page


def test_rows_without_data_are_drawn_by_latency_alone(library: str) -> None:
    page = render_html(report_of(make_row(accuracy=None, vs_float=None)))
    assert page.count('class="chart"') == 1


def test_what_was_measured_over_time_and_in_turns_is_shown(library: str) -> None:
    page = render_html(report_of(everything()))
    assert "0.37 (0.36–0.39)" in page
    assert ">120<" in page
    assert ('id="sustained"' in page) == (library == "vega")


def test_flipped_images_have_thumbnails_that_can_be_nothing_but_images(library: str) -> None:
    report = report_of(make_row(), thumbnails={FLIP.image: "data:image/jpeg;base64,QUJD"})
    assert read(render_html(report)).loads == ["data:image/jpeg;base64,QUJD"]
    report = report_of(make_row(), thumbnails={FLIP.image: "https://example.org/spy.gif"})
    assert read(render_html(report)).loads == []


def test_the_summary_claims_no_speed_that_it_is_not_sure_of() -> None:
    base = make_row(27.0, artifact="base", precision=Precision.FP32)
    shaky = make_row(10.0, unstable="the median drifted")
    words = summary(report_of(base, shaky))
    assert "as fast as" not in words
    assert "not quiet" in words
    in_turns = make_row(10.0, ratio=Ratio("base", 0.5, 0.4, 0.625, 10))
    words = summary(report_of(base, in_turns))
    assert "2.00 x as fast as base (1.60 to 2.50)" in words


def test_labels_lie_on_no_symbol_and_on_no_other_label() -> None:
    spots = [Spot(x, y, 9.0, (y - 20, y + 20), "int8-static") for x, y in CROWD]
    for width in WIDTHS:
        drawn: list[tuple[float, float, float, float]] = []
        for spot, place in zip(spots, place_labels(spots, 340.0), strict=True):
            x = spot.x * width
            drawn.append((x - 9, spot.y - 9, x + 9, spot.y + 9))
            if place is not None:
                left = x + place.dx - (0 if place.align == "left" else 75)
                drawn.append((left, spot.y + place.dy - 7, left + 75, spot.y + place.dy + 7))
        assert len(drawn) > len(spots)
        for one, other in itertools.combinations(drawn, 2):
            across = min(one[2], other[2]) - max(one[0], other[0])
            down = min(one[3], other[3]) - max(one[1], other[1])
            are_symbols = one[2] - one[0] == other[2] - other[0] == 18
            assert are_symbols or across <= 0 or down <= 0


def test_a_point_without_room_for_its_label_has_none_and_the_pick_comes_first() -> None:
    spots = [Spot(0.5, 50.0, 9.0, (50.0, 50.0), "int8")] * 12
    places = place_labels([*spots, replace(spots[0], is_kept=True)], 100.0)
    assert places[-1] is not None
    assert places.count(None) > 5


def test_colours_stand_out_from_light_and_dark_paper_and_keep_their_hue() -> None:
    for colour in ("#d55e00", "#ffff00", "#000000", "#ffffff", "#0072b2"):
        for paper in (LIGHT_PAPER, DARK_PAPER):
            assert contrast(readable(colour, paper), paper) >= LEAST_CONTRAST
    assert readable("#0072b2", LIGHT_PAPER) == "#0072b2"
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    with pytest.raises(ValueError, match="'red' is not a colour"):
        mark("red")


def test_the_front_shows_what_is_lost_around_float32_with_its_interval() -> None:
    drop = Drop(1.5, -0.5, 3.5, 60)
    lost = make_row(vs_float=VsFloat(98.0, 20.0, 60, drop=drop))
    (point,) = timed_points([lost])
    assert (point.quality, point.interval) == (-1.5, (-3.5, 0.5))
    assert quality_title([point]) == "Top-1 against float32, points"
    (point,) = timed_points([make_row(vs_float=None)])
    assert (point.quality, point.interval) == (86.4, (83.1, 89.1))
    assert quality_title([point]) == "Top-1, %"
    (point,) = timed_points([make_row(accuracy=None)])
    assert (point.quality, point.interval) == (99.2, None)
    # All points of a chart show the same measure.
    assert quality_title(timed_points([lost, make_row()])) == "Top-1, %"


def test_a_label_names_the_target_where_a_format_has_several() -> None:
    rows = [make_row(), make_row(target=Target("tflite", "gpu")), make_row(format=Format.ONNX)]
    points = timed_points(rows)
    assert [label_of(point, points) for point in points] == [
        "int8 tflite-cpu",
        "int8 tflite-gpu",
        "int8",
    ]


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    def row(name: str, median_ms: float, agreement: float) -> Row:
        return make_row(
            median_ms, artifact=name, accuracy=None, vs_float=VsFloat(agreement, 20.0, 100)
        )

    rows = [row("slow", 30, 99), row("fast", 10, 97), row("beaten", 31, 98), row("best", 40, 100)]
    points = timed_points(report_of(*rows).rows)
    assert [point.label.split(",")[0] for point in front_of(points)] == ["fast", "slow", "best"]


def test_the_summary_names_the_fastest_that_is_faithful() -> None:
    unfaithful = VsFloat(80.0, 3.0, 500)
    report = report_of(
        make_row(27.0, artifact="base", precision=Precision.FP32),
        make_row(10.0, artifact="good"),
        make_row(5.0, artifact="fast but wrong", vs_float=unfaithful),
        failed_row(Status.CRASHED, "SIGILL"),
    )
    words = summary(report)
    assert "good on tflite-cpu in 10.4 ms, 2.7 x as fast as its float32 self" in words
    assert "Of 4 measurements, 1 did not go well." in words
    assert "No artefact agrees" in summary(replace(report, rows=report.rows[2:3]))


def test_which_class_became_which_is_counted_and_shown(library: str) -> None:
    row = make_row()
    assert row.vs_float is not None
    pairs = (Confusion("tench", "goldfish", 3, (FLIP.image,)), Confusion("cat", "dog", 1, ()))
    row = replace(row, vs_float=replace(row.vs_float, confusions=pairs))
    report = report_of(row, thumbnails={FLIP.image: "data:image/jpeg;base64,QUJD"})
    found = read(render_html(report))
    assert "tenchgoldfish3" in found.text
    assert len(found.loads) == 2  # beside the pair of classes, and in the list of images
    # Who is right is said by a sign, not by a colour alone.
    assert "tench ✓" in found.text
    assert "goldfish ✗" in found.text


def test_the_error_of_each_layer_has_a_section_of_its_own(library: str) -> None:
    page = render_html(report_of(layers=compared_layers()))
    assert "Error layer by layer" in page
    if library == "plain":
        assert "blocks.1.fc2 12.0, blocks.1.fc1 20.5" in page
    assert "Error layer by layer" not in render_html(report_of())
    equal = replace(compared_layers()[0], layers=(LayerError("head", None),))
    assert "Error layer by layer" not in render_html(report_of(layers=(equal,)))


def test_a_pick_opens_the_page_with_its_words_and_its_command(library: str) -> None:
    command = "vitedge convert model.keras --int8 --format tflite"
    pick = Pick(
        "out/model.int8.tflite", "tflite-cpu", True, "Ship <it>.", command, 0.5, None, 8, ()
    )
    report = report_of(pick=pick)
    page = render_html(report)
    assert '<p class="summary">Ship &lt;it&gt;.</p>' in page
    words = read(page).text
    assert words.index("Picked: model.int8.tflite on tflite-cpu") < words.index("Ship <it>.")
    near = replace(pick, meets_budget=False)
    assert "Nearest to the budget: model.int8" in read(render_html(report_of(pick=near))).text
    assert command in read(page).text
    assert ("A ring marks the pick" in page) == (library == "vega")
    points = timed_points(report.rows, report.pick)
    assert [point.label for point in points if point.is_picked] == ["model.int8.tflite, tflite-cpu"]


def test_the_page_says_what_made_each_point_of_the_front() -> None:
    paths = "out/model.int8.tflite", "out/model.tokens-0.7.int8.tflite"
    rows = [make_row(artifact=path) for path in paths]
    made_by = MadeBy(paths[0], "", "make <all>"), MadeBy(paths[1], "tokens 0.7", "make fewer")
    front = tuple(f"{path} on tflite-cpu" for path in paths)
    pick = Pick(paths[1], "tflite-cpu", True, "", "make fewer", 0.5, None, None, front, made_by)
    points = timed_points(rows, pick)
    assert [label_of(point, points) for point in points] == ["int8", "int8 tokens 0.7"]
    assert [point.details["leaves out"] for point in points] == ["", "tokens 0.7"]
    markup = render_html(report_of(*rows, pick=pick))
    assert "<dt>model.int8.tflite</dt><dd><pre><code>make &lt;all&gt;</code></pre></dd>" in markup
    assert "<dt>model.tokens-0.7" not in markup  # what was picked stands above


def test_steps_beside_inference_stand_apart_and_so_does_what_was_lost(library: str) -> None:
    from vitedge.bench.spread import paired_drop

    row = make_row(battery_mj=41.0)
    assert row.vs_float is not None
    row = replace(row, vs_float=replace(row.vs_float, drop=paired_drop(3, 1, 500)))
    page = render_html(report_of(row))
    for title, value in (
        ("Preprocess ms", "4.00"),
        ("Postprocess ms", "0.100"),
        ("Battery mJ", "41.0"),
        ("Top-1 lost (95 % interval)", "0.4 (-0.5 to 1.3)"),
    ):
        assert f'data-label="{title}">{value}<' in page


def test_what_all_names_begin_with_is_left_out_where_room_is_short() -> None:
    names = ("out/model.int8.tflite", "out/model.fp32.tflite")
    points = timed_points(report_of(*(make_row(artifact=name) for name in names)).rows)
    assert [point.short for point in points] == [
        "int8.tflite, tflite-cpu",
        "fp32.tflite, tflite-cpu",
    ]
    (alone,) = timed_points(report_of(make_row()).rows)
    assert alone.short == "model.int8.tflite, tflite-cpu"
