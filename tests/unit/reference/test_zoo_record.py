"""The record of the zoo's results, and what a new measurement changes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reference.zoo.measuring import InFormat, Result
from reference.zoo.record import RECORD, merged, of_each_family, read_record, write_record
from reference.zoo.table import BEGIN, END, write_table

ROOT = Path(__file__).parents[3]

CONVERTED = Result(
    "timm.vit",
    "vit_tiny",
    10,
    "by name",
    "",
    110.0,
    {"onnx": InFormat(111.0, 30.0, 25.0, "dynamic", 0.5)},
    "VNNI",
)


def test_what_was_only_read_again_keeps_its_artefacts() -> None:
    again = Result("timm.vit", "vit_tiny", 10, "lifted", "", 112.0)
    (kept,) = merged([CONVERTED], [again])
    assert (kept.road, kept.read_db) == ("lifted", 112.0)
    assert (kept.formats, kept.products) == (CONVERTED.formats, "VNNI")


def test_what_is_read_no_longer_keeps_none() -> None:
    (kept,) = merged([CONVERTED], [Result("timm.vit", "vit_tiny", 10, "generic", "an operator")])
    assert not kept.formats


def test_a_family_has_a_result_for_each_kind_of_processor_the_newest_last() -> None:
    slower = replace(CONVERTED, products="AVX2", formats={"onnx": InFormat(ratio=0.9)})
    again = replace(slower, formats={"onnx": InFormat(ratio=0.8)})
    both = merged([CONVERTED], [slower])
    assert both == [CONVERTED, slower]
    assert merged(both, [again]) == [CONVERTED, again]


def test_the_result_with_vnni_is_shown_or_else_the_newest() -> None:
    slow, other = (replace(CONVERTED, products=each) for each in ("AVX2", "AMX"))
    assert of_each_family([CONVERTED, slow]) == of_each_family([slow, CONVERTED]) == [CONVERTED]
    assert of_each_family([slow, other]) == [other]


def test_reading_again_is_told_of_every_result() -> None:
    slower = replace(CONVERTED, products="AVX2")
    again = Result("timm.vit", "vit_tiny", 10, "lifted", "", 112.0)
    kept = merged([CONVERTED, slower], [again])
    assert [each.products for each in kept] == ["VNNI", "AVX2"]
    assert {each.read_db for each in kept} == {112.0}


def test_new_families_stand_beside_the_others(tmp_path: Path) -> None:
    other = Result("timm.beit", "beit", 10, "by name", "", 100.0)
    write_record(tmp_path / "record.json", merged([CONVERTED], [other]))
    assert read_record(tmp_path / "record.json") == [other, CONVERTED]


def test_the_page_shows_the_record(tmp_path: Path) -> None:
    page = ROOT / "docs" / "models.md"
    copy, record = tmp_path / "models.md", tmp_path / "measured.json"
    record.write_bytes(RECORD.read_bytes())
    copy.write_text(f"{BEGIN}\n{END}\n", "utf-8")
    write_table(tmp_path, copy, record)
    region = copy.read_text("utf-8").strip()
    assert region in page.read_text("utf-8")
    assert record.read_bytes() == RECORD.read_bytes()
