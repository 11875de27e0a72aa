"""Progress where nobody watches: a log file gets a line now and then."""

from __future__ import annotations

import io

from vitedge.terminal.display import lines_now_and_then


def test_a_log_gets_its_first_line_after_a_while_and_one_in_each() -> None:
    stream, seconds = io.StringIO(), 0.0

    def now() -> float:
        return seconds

    show = lines_now_and_then(stream, now, seconds=30)
    for seconds in (0.0, 10.0, 29.0, 31.0, 45.0, 60.0, 62.0, 90.0):
        show("writing model.int8.onnx", int(seconds), 100)
    assert stream.getvalue().splitlines() == [
        "writing model.int8.onnx: 31 of 100",
        "writing model.int8.onnx: 62 of 100",
    ]


def test_what_is_shown_is_printable_and_says_no_count_that_is_unknown() -> None:
    stream = io.StringIO()
    lines_now_and_then(stream, seconds=0)("reading \x1b[31m", 0, 0)
    assert stream.getvalue() == "reading \\x1b[31m\n"
