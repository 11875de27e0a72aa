"""Progress where nobody watches: a log file gets a line now and then."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading

from vitedge.terminal.display import lines_now_and_then


class Log(io.StringIO):
    """A stream that says when so many lines more were written."""

    def __init__(self) -> None:
        super().__init__()
        self._left, self._is_full = 0, threading.Event()

    def wait_for(self, lines: int) -> list[str]:
        self._is_full.clear()
        self._left = lines
        assert self._is_full.wait(60)
        return self.getvalue().splitlines()

    def flush(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._is_full.set()


def test_a_log_gets_a_line_in_each_while_also_when_nothing_is_said_in_it() -> None:
    log = Log()
    with lines_now_and_then(log, seconds=0.01) as show:
        show("writing model.int8.onnx", 31, 100)
        # The first of them may have been on its way before.
        for line in log.wait_for(4)[-3:]:
            assert re.fullmatch(r"writing model\.int8\.onnx: 31 of 100 \(\d+ s\)", line)


def test_a_short_run_leaves_no_line_in_a_log() -> None:
    log = Log()
    with lines_now_and_then(log) as show:
        show("reading", 0, 1)
    assert log.getvalue() == ""


def test_what_is_shown_is_printable_and_says_no_count_that_is_unknown() -> None:
    log = Log()
    with lines_now_and_then(log, seconds=0.01) as show:
        show("reading \x1b[31m", 0, 0)
        assert log.wait_for(2)[-1].startswith("reading \\x1b[31m (")


def test_a_line_that_is_said_meanwhile_stands_above_the_bar() -> None:
    program = (
        "from vitedge.terminal.display import progress_on_stderr\n"
        "from vitedge.terminal.output import echo\n"
        "with progress_on_stderr() as progress:\n"
        "    progress('writing b', 1, 3); echo('finished a: 1 MB', err=True)\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=theirs, stdout=theirs, check=True)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the end, on Linux
        pass
    finally:
        os.close(ours)
    # A line of its own: in front of it the bar was wiped.
    assert re.search(rb"(\n|\x1b\[2K)finished a: 1 MB\r?\n", said), said
