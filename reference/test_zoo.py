"""The table of the zoo says what was measured, and what was not."""

import json
from dataclasses import asdict

import pytest

from reference.zoo.measuring import RESULT_FILE, InFormat, Result
from reference.zoo.table import BEGIN, END
from reference.zoo.table import write_table as write_table_and_record

GOOD = InFormat(fp32_db=110.0, int8_db=30.0, stock_db=25.0, stock="stock", ratio=0.5)
SLOW = InFormat(fp32_db=111.0, int8_db=26.0, stock_db=25.0, stock="stock", ratio=1.2)
FORMATS = ("onnx", "tflite", "openvino")
RESULTS = (
    Result("timm.good", "good", 1, "by name", "", 120.0, dict.fromkeys(FORMATS, GOOD)),
    Result(
        "timm.slow",
        "slow",
        1,
        "lifted",
        "",
        120.0,
        {"onnx": SLOW, "tflite": InFormat(refused="why")},
    ),
    Result("timm.read", "read", 1, "lifted", "", 115.0),
    Result("timm.other", "other", 1, "generic", "node 'a|b' computes nothing"),
)


def write_table(folder, page):
    """Leaves the record of the real results alone."""
    write_table_and_record(folder, page, folder / "record.json")


@pytest.fixture
def page(tmp_path):
    for each in RESULTS:
        (tmp_path / each.name).mkdir()
        (tmp_path / each.name / RESULT_FILE).write_text(json.dumps(asdict(each)), "utf-8")
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    return path


def test_the_region_is_replaced_and_nothing_else(page):
    write_table(page.parent, page)
    once = page.read_text("utf-8")
    write_table(page.parent, page)
    assert page.read_text("utf-8") == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once


def test_families_and_goals_are_counted(page):
    write_table(page.parent, page)
    words = " ".join(page.read_text("utf-8").split())
    assert "4 families; 3 are read (1 by name); 1 take the generic path, 0 are refused." in words
    assert "2 were converted here, of which 1 reach all formats" in words
    assert "| timm.read | read | lifted | 115 | - | - | - | - |" in words
    assert (
        "at least 3 dB above the best stock quantizer in 3 of 4 artefacts (TFLite 1 of 1," in words
    )
    assert "at most 0.95 of its time in 3 of 4 artefacts (TFLite 1 of 1," in words


def test_a_cell_says_when_stock_got_our_own_graph(page):
    write_table(page.parent, page)
    words = " ".join(page.read_text("utf-8").split())
    assert "30.0 / 25.0, 0.50† | 30.0 / 25.0, 0.50 | 30.0 / 25.0, 0.50 |" in words
    assert "0 of 1 TFLite cells have a stock file of another converter" in words


def test_what_falls_short_is_listed_with_its_reason(page):
    write_table(page.parent, page)
    lines = page.read_text("utf-8").splitlines()
    said = [each for each in lines if each.startswith("* **")]
    assert len(said) == 2
    assert "generic: node 'a/b' computes nothing" in said[0]
    assert "onnx: int8 +1.0 dB against stock; onnx: 1.20 of stock's time; tflite: why" in said[1]


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_table(tmp_path, page)
    assert page.read_text("utf-8") == "nothing"
