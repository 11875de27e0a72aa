"""The report page as people see it: in a browser, on a phone, a tablet and a desk."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bench_rows import compared_layers, everything, make_report
from tests.support.chromium import CHROMIUM, Chromium
from vitedge.report import render_html
from vitedge.report.colours import contrast as contrast_by_wcag
from vitedge.report.results import Pick

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with")

WIDTHS = [360, 800, 1280]
# Those whose area is the size of a file, not the ring around the pick.
LARGEST_POINT = "#front .mark-symbol.role-mark path[fill]:not([fill='transparent'])"
TOOLTIP = "document.querySelector('#vg-tooltip-element.visible')?.innerText"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
    report = make_report()
    report = replace(report, rows=(everything(), *report.rows[1:]), layers=compared_layers())
    path = tmp_path_factory.mktemp("page") / "report.html"
    pick = Pick("out/model.int8.tflite", "tflite-cpu", True, "", "", 0.5, None, None, ())
    path.write_text(render_html(replace(report, pick=pick)), "utf-8")
    return path


def hover(browser: Chromium, selector: str) -> str:
    """The tooltip's words while the pointer is on the middle of an element."""
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait(f"{element} !== null")
    browser.run(f"{element}.scrollIntoView({{block: 'center'}})")
    box = browser.run(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
        f"({element}.getBoundingClientRect())"
    )
    browser.move_mouse(box[0] - 40, box[1] - 40)
    browser.move_mouse(*box)
    return str(browser.wait(TOOLTIP))


@pytest.mark.parametrize("width", WIDTHS)
def test_hovering_over_a_point_shows_its_row(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    words = hover(browser, LARGEST_POINT)
    assert "model.fp32.tflite, tflite-cpu" in words
    assert "28.0 ms" in words
    assert "86.8 % of 500" in words


@pytest.mark.parametrize("width", WIDTHS)
def test_hovering_near_a_layer_shows_its_error(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    words = hover(browser, "#layers .mark-symbol.role-mark path")
    assert "blocks.0.out" in words
    assert "model.int8.tflite" in words
    assert "31.0" in words


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.wait(f"document.querySelector({json.dumps(LARGEST_POINT)}) !== null")
    assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_rows_stay_a_table_whose_names_stay_in_sight(
    browser: Chromium, page: Path, width: int
) -> None:
    browser.open(page, width=width)
    assert browser.run("getComputedStyle(document.querySelector('.rows')).display") == "table"
    place = "document.querySelector('.rows td').getBoundingClientRect().left"
    before = browser.run(place)
    is_wider = browser.run(
        "(e => { e.scrollLeft = 200; return e.scrollLeft > 0; })"
        "(document.querySelector('.rows').closest('.scroll'))"
    )
    assert is_wider or width == WIDTHS[-1]
    assert browser.run(place) == before


@pytest.mark.parametrize("width", WIDTHS)
def test_labels_in_the_front_do_not_lie_on_one_another(
    browser: Chromium, page: Path, width: int
) -> None:
    browser.open(page, width=width)
    boxes = browser.wait(
        "[...document.querySelectorAll('#front .mark-text.role-mark text')].map(text => "
        "(box => [box.left, box.right, box.top, box.bottom])(text.getBoundingClientRect()))"
    )
    assert len(boxes) >= 2
    for one, other in itertools.combinations(boxes, 2):
        assert min(one[1], other[1]) <= max(one[0], other[0]) or (
            min(one[3], other[3]) <= max(one[2], other[2])
        )


# Of every mark that is to be seen, its fill and its stroke, each with what makes it see-through;
# the lines of the grid are background.
MARKS = """
[...document.querySelectorAll('.chart svg :is(path, line, text, circle, rect, polyline)')]
  .filter(mark => !mark.closest('.role-axis-grid, .background'))
  .filter(mark => mark.getBoundingClientRect().width + mark.getBoundingClientRect().height > 0)
  .flatMap(mark => {
    const style = getComputedStyle(mark);
    let opacity = 1;
    for (let each = mark; each.nodeName !== 'svg'; each = each.parentNode)
      opacity *= getComputedStyle(each).opacity;
    const paints = mark.closest('.mark-text, text') ? ['fill'] : ['fill', 'stroke'];
    return paints.map(paint => [style[paint], opacity * style[paint + 'Opacity'], mark.outerHTML]);
  })
  .filter(([colour, opacity]) => colour !== 'none' && colour !== 'rgba(0, 0, 0, 0)' && opacity > 0)
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_mark_stands_out_in_light_and_in_dark(
    browser: Chromium, page: Path, dark: bool
) -> None:
    browser.open(page, width=1280, dark=dark)
    browser.wait(f"document.querySelector({json.dumps(LARGEST_POINT)}) !== null")
    assert_marks_stand_out(browser, at_least=100)


def assert_marks_stand_out(browser: Chromium, *, at_least: int) -> None:
    """Each of so many marks of the charts has a contrast of 4.5 to the paper."""
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    marks = browser.run(MARKS)
    assert len(marks) >= at_least
    for colour, opacity, element in marks:
        seen = [
            round(opacity * part + (1 - opacity) * behind)
            for part, behind in zip(_numbers(colour), _numbers(paper), strict=True)
        ]
        assert contrast_of(seen, _numbers(paper)) >= 4.5, (colour, opacity, element[:200])


def _numbers(colour: str) -> list[int]:
    """Red, green and blue of ``rgb(...)``."""
    return [int(part) for part in re.findall(r"[0-9]+", colour)[:3]]


def contrast_of(one: list[int], other: list[int]) -> float:
    """The contrast of two colours by our own rule, which a unit test holds to WCAG's numbers."""
    return contrast_by_wcag(
        *("#" + "".join(f"{part:02x}" for part in each) for each in (one, other))
    )


def test_a_command_has_a_button_that_copies_it(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1280)
    assert browser.run("document.querySelector('pre code').textContent").startswith("vitedge bench")
    assert browser.run("document.querySelector('pre button').textContent") == "Copy"
    browser.run("document.querySelector('pre button').click()")
    browser.wait(
        "['Copied', 'Selected'].includes(document.querySelector('pre button').textContent)"
    )


def contrast(browser: Chromium, selector: str) -> float:
    """Of a text to the page's background, by WCAG 2.2: https://www.w3.org/TR/WCAG22/."""
    colours = browser.run(
        f"[document.querySelector({json.dumps(selector)}), document.body].map((element, index) => "
        "getComputedStyle(element)[index ? 'backgroundColor' : 'color'].match(/[0-9]+/g))"
    )

    return contrast_of(*([int(part) for part in colour[:3]] for colour in colours))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    "selector", ["h1", ".note", ".status.OK", ".status.SLOWER", "#front", "dt"]
)
def test_text_can_be_read_in_light_and_in_dark(
    browser: Chromium, page: Path, selector: str, dark: bool
) -> None:
    browser.open(page, width=1280, dark=dark)
    # The least contrast of text at level AA.
    assert contrast(browser, selector) >= 4.5


def test_the_page_asks_the_network_for_nothing(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1280)
    browser.wait(f"document.querySelector({json.dumps(LARGEST_POINT)}) !== null")
    assert browser.run("performance.getEntriesByType('resource').length") == 0


def test_in_print_everything_is_open_and_dark_is_off(browser: Chromium, page: Path) -> None:
    browser.open(page, width=1000, dark=True)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("document.querySelector('details table').checkVisibility()")
    browser.ask("Emulation.setEmulatedMedia", media="")
