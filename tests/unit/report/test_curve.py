"""The page of a training run, as text and in a browser."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_report_browser import assert_marks_stand_out, contrast, hover
from tests.support.chromium import CHROMIUM, Chromium
from tests.unit.report.test_page import read
from vitedge.report.curve import curve_summary, render_curve
from vitedge.train import Epoch

FACTS = {"Model": "16 x 16 px, 64 wide", "Learning rate": "0.001"}


def history(count: int = 12, *, held_out: bool = True) -> tuple[Epoch, ...]:
    """A run that is best after its last but two epochs."""
    return tuple(
        Epoch(
            number=number,
            of=20,
            loss=2 / number,
            accuracy=1 - 0.9 / number,
            held_out_accuracy=(0.9 - 0.01 * abs(number - count + 2)) if held_out else None,
            learning_rate=1e-3 * (1 - number / 20),
            images_per_second=1234.5,
            seconds=60.0 * number,
            held_out_loss=(1.5 / number + 0.1) if held_out else None,
        )
        for number in range(1, count + 1)
    )


@pytest.fixture(params=["plain", "vega"])
def interactive(request: pytest.FixtureRequest) -> bool:
    if request.param == "vega":
        pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    return bool(request.param == "vega")


def test_the_page_says_where_the_run_stands(interactive: bool) -> None:
    text = read(render_curve(history(), FACTS, interactive=interactive)).text
    assert "Epoch 12 of 20: loss 0.167, 88.0% of the held-out images right" in text
    assert "the most, 90.0%, after epoch 10" in text
    assert "90.0 best" in text
    assert "0.2250" in text  # the held-out loss of the last epoch
    for title in ("Loss", "Right, %", "Learning rate"):
        assert title in render_curve(history(), FACTS, interactive=interactive)


def test_the_page_loads_nothing_and_forbids_it(interactive: bool) -> None:
    page = render_curve(history(), FACTS, interactive=interactive)
    assert read(page).loads == []
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_a_page_of_a_run_that_goes_on_is_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # it would not even be looked for
    page = render_curve(history(), FACTS, interactive=False)
    assert "<script" not in page
    assert len(page) < 50_000
    assert page.count("<svg") == 3


def test_every_chart_is_told_to_those_who_do_not_see_it() -> None:
    page = render_curve(history(), FACTS, interactive=False)
    assert page.count('role="img" aria-label="') == 3
    words = "training from 10 after epoch 1 to 92.5 after epoch 12; held out from 81"
    assert f"Right, % over the epochs: {words}" in page


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "none held out"])
def test_a_run_that_has_hardly_begun_has_a_page(
    count: int, held_out: bool, interactive: bool
) -> None:
    page = render_curve(history(count, held_out=held_out), FACTS, interactive=interactive)
    assert "nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_without_held_out_images_none_is_claimed() -> None:
    assert "None were held out" in curve_summary(history(held_out=False))


def test_what_comes_from_outside_is_text_and_never_markup(interactive: bool) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    found = read(render_curve(history(), {evil: evil}, title=evil, interactive=interactive))
    assert "img" not in found.tags
    assert found.text.count(evil) >= 3


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


def written(folder: Path, interactive: bool) -> Path:
    path = folder / "report.html"
    path.write_text(render_curve(history(), FACTS, interactive=interactive), "utf-8")
    return path


@in_a_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_a_phone_and_a_desk(browser, tmp_path, interactive, width) -> None:
    browser.open(written(tmp_path, interactive), width=width)
    browser.wait("document.querySelectorAll('.chart svg').length === 3")
    assert browser.run("document.documentElement.scrollWidth") <= width
    # The last chart is drawn to its end, with an axis of its own.
    assert (
        browser.run("document.querySelectorAll('.chart svg')[2].getBoundingClientRect().width")
        > width / 2
    )
    assert browser.run("performance.getEntriesByType('resource').length") == 0


@in_a_browser
def test_hovering_near_an_epoch_shows_its_numbers(browser, tmp_path) -> None:
    pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    browser.open(written(tmp_path, True), width=1280)
    words = hover(browser, "#accuracy .mark-symbol.role-mark path")
    assert "Epoch" in words
    assert "held out" in words or "training" in words


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("selector", ["h1", ".note", "figcaption", "#rate", "dt", "td"])
def test_text_can_be_read_in_light_and_in_dark(browser, tmp_path, selector, dark) -> None:
    pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    browser.open(written(tmp_path, True), width=1280, dark=dark)
    # The least contrast of text at level AA.
    assert contrast(browser, selector) >= 4.5


def test_one_epoch_is_the_best_and_times_differ_in_short_runs() -> None:
    epochs = tuple(
        replace(each, held_out_accuracy=0.9, seconds=0.4 * each.number) for each in history(4)
    )
    text = read(render_curve(epochs, FACTS, interactive=False)).text
    assert text.count("90.0 best") == 1
    for seconds in ("0.4 s", "0.8 s", "1.2 s", "1.6 s"):
        assert seconds in text
    longer = read(render_curve((replace(epochs[0], seconds=3725.0),), FACTS, interactive=False))
    assert "1:02:05" in longer.text


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_line_stands_out_in_light_and_in_dark(browser, tmp_path, dark) -> None:
    browser.open(written(tmp_path, interactive=False), width=1280, dark=dark)
    assert_marks_stand_out(browser, at_least=15)
