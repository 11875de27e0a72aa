"""Writes what was measured into the marked region of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reference.zoo.making import families
from reference.zoo.measuring import InFormat, Result, read_results, shown_number
from reference.zoo.record import RECORD, merged, of_each_family, read_record, write_record
from reference.zoo.stock import LITERT_TORCH
from vitedge.files.staging import write_whole

BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"

_NAMES = {"tflite": "TFLite", "onnx": "ONNX", "openvino": "OpenVINO"}
_FORMATS = tuple(_NAMES)
_PROCESSORS = ("AVX2", "VNNI", "AMX")
_GAIN_DB, _RATIO = 3.0, 0.95
"""The goals of int8: above the format's stock quantizer, and the share of its time."""


def write_table(folder: Path, page: Path, record: Path = RECORD) -> None:
    """Replaces what stands between the marks of the page, and adds the results to the record.

    Raises:
        ValueError: The page lacks the marks.
    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"'{page}' lacks the marks {BEGIN} and {END}")
    results = merged(read_record(record), read_results(folder))
    write_record(record, results)
    lines = "\n".join(_lines(results))
    write_whole(page, f"{before}{BEGIN}\n{lines}\n{END}{after}")


def _lines(recorded: Sequence[Result]) -> Iterator[str]:
    results = of_each_family(recorded)
    own = [each for each in results if each.road in ("by name", "lifted")]
    converted = [each for each in own if each.formats]
    whole = [each for each in own if len(_written(each)) == len(_FORMATS)]
    yield f"* {len(results)} families; {len(own)} are read ({_count(results, 'by name')} by name);"
    yield f"  {_count(results, 'generic')} take the generic path, {_count(results, 'refused')} are"
    yield f"  refused. {len(converted)} were converted here, of which {len(whole)} reach all"
    yield "  formats at float32 and int8."
    yield from _reached(own)
    for kind in _PROCESSORS:
        measured = [each for each in recorded if each.products == kind and each.formats]
        if measured:
            yield f"* On {kind}, older rows included: {len(measured)} families;"
            yield f"  {_GAIN_DB:.0f} dB above in {_shares(_above(measured))};"
            yield f"  at most {_RATIO} of the time in {_shares(_quick(measured))}."
    yield ""
    yield "| family | model | read | float32 dB | TFLite int8 | ONNX int8 | OpenVINO int8 | on |"
    yield "|---|---|---|--:|--:|--:|--:|---|"
    for each in results:
        yield _row(each)
    yield ""
    yield from _shortfalls(results)
    known = {each.name for each in results}
    untried = [each.name for each in families(()) if each.name not in known]
    if untried:
        yield ""
        yield f"Families of the program without a result: {', '.join(untried)}."


def _reached(own: Sequence[Result]) -> Iterator[str]:
    """The goals of int8, in all and by format."""
    yield f"* int8 is at least {_GAIN_DB:.0f} dB above the best stock quantizer in"
    yield f"  {_shares(_above(own))}."
    yield f"* int8 takes at most {_RATIO} of its time in {_shares(_quick(own))}."
    tflite = [each for each in own if "tflite" in _written(each)]
    foreign = [each for each in tflite if not _has_our_graph(each)]
    yield f"* {len(foreign)} of {len(tflite)} TFLite cells have a stock file of another converter;"
    yield "  the rest, marked †, compare with the stock quantizer on our own graph."


def _above(results: Sequence[Result]) -> list[tuple[str, bool]]:
    """The format of each artefact that has a gain, and whether that reaches the goal."""
    cells = [(name, _gain(each.formats[name])) for each in results for name in _written(each)]
    return [(name, gain >= _GAIN_DB) for name, gain in cells if gain is not None]


def _quick(results: Sequence[Result]) -> list[tuple[str, bool]]:
    """The format of each artefact that was timed, and whether it reaches the goal."""
    cells = [(name, each.formats[name].ratio) for each in results for name in _written(each)]
    return [(name, ratio <= _RATIO) for name, ratio in cells if ratio is not None]


def _shares(reached: Sequence[tuple[str, bool]]) -> str:
    """The number of artefacts that reach a goal, of all and of each format."""
    parts = []
    for format_name in _FORMATS:
        of_format = [each for name, each in reached if name == format_name]
        parts.append(f"{_NAMES[format_name]} {sum(of_format)} of {len(of_format)}")
    return f"{sum(each for _, each in reached)} of {len(reached)} artefacts ({', '.join(parts)})"


def _has_our_graph(result: Result) -> bool:
    """Whether the stock quantizer got our own float32 TFLite file; Keras has a converter."""
    stock = result.formats["tflite"].stock
    return not result.name.startswith("keras_hub.") and stock != LITERT_TORCH


def _count(results: Sequence[Result], road: str) -> int:
    return sum(each.road == road for each in results)


def _written(result: Result) -> list[str]:
    """The formats that have both artefacts."""
    return [
        name
        for name, each in result.formats.items()
        if each.fp32_db is not None and each.int8_db is not None
    ]


def _gain(found: InFormat) -> float | None:
    if found.int8_db is None or found.stock_db is None:
        return None
    return found.int8_db - found.stock_db


def _row(result: Result) -> str:
    parities = [each.fp32_db for each in result.formats.values() if each.fp32_db is not None]
    parity = shown_number(min(parities, default=result.read_db), 0)
    cells = [_cell(result.formats.get(name, InFormat())) for name in _FORMATS]
    if cells[0] != "-" and _has_our_graph(result):
        cells[0] += "†"
    words = [result.name, result.architecture, result.road, parity, *cells, result.products or "-"]
    return f"| {' | '.join(words)} |"


def _cell(found: InFormat) -> str:
    """Ours / stock in decibel, and the ratio of latencies."""
    if found.int8_db is None:
        return "-"
    return (
        f"{shown_number(found.int8_db, 1)} / {shown_number(found.stock_db, 1)}, "
        f"{shown_number(found.ratio, 2)}"
    )


def _shortfalls(results: Sequence[Result]) -> Iterator[str]:
    """What is not read, lacks an artefact, or misses a goal."""
    yield "What falls short:"
    yield ""
    for each in results:
        said = list(_said(each))
        if said:
            yield f"* **{each.name}** {'; '.join(said)}"


def _said(result: Result) -> Iterator[str]:
    if result.road in ("generic", "refused"):
        yield f"{result.road}: {_plain(result.why)}"
        return
    for name, each in result.formats.items():
        if each.refused:
            yield f"{name}: {_plain(each.refused)}"
            continue
        gain = _gain(each)
        if gain is not None and gain < _GAIN_DB:
            yield f"{name}: int8 {gain:+.1f} dB against stock"
        if each.ratio is not None and each.ratio > _RATIO:
            yield f"{name}: {each.ratio:.2f} of stock's time"


def _plain(words: str) -> str:
    """Words that Markdown leaves as they are."""
    return words.replace("|", "/").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
