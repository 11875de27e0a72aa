"""The display for people who wait: progress on stderr, or lines in a log file."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from vitedge.terminal.printable import printable
from vitedge.terminal.progress import Progress

_SECONDS_A_LINE = 30.0


@contextmanager
def progress_on_stderr(*, tells_time: bool = False) -> Iterator[Progress]:
    """A bar with the time passed and the time left; in a file or a pipe, a line now and then.

    Args:
        tells_time: The words say how much time is left, so the bar does not.
    """
    if not sys.stderr.isatty():
        with lines_now_and_then(sys.stderr) as show_line:
            yield show_line
        return
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    class Seconds(rich_progress.ProgressColumn):
        """The seconds for which the words have been the same, from the first one on."""

        def render(self, task: rich_progress.Task) -> Text:
            seconds = task.elapsed or 0.0
            return Text(f"{seconds:.0f} s" if seconds >= 1 else "")

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=30),
        rich_progress.TextColumn("{task.completed:g}/{task.total:g}"),
        # It ticks while a library computes and says nothing.
        Seconds(),
        *(() if tells_time else (rich_progress.TimeRemainingColumn(),)),
    )
    with (
        _own_stderr() as stream,
        rich_progress.Progress(*columns, console=Console(file=stream), transient=True) as bar,
    ):
        task = bar.add_task("", total=1)
        described = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal described
            what = printable(what)
            if what != described:
                # What an earlier run has done already says nothing about the speed of this one.
                bar.reset(task, description=what, total=total or 1, completed=done)
                described = what
            bar.update(task, completed=done, total=total or 1)

        yield show


@contextmanager
def lines_now_and_then(stream: TextIO, seconds: float = _SECONDS_A_LINE) -> Iterator[Progress]:
    """Progress for a log file: the first line after a while, and one in each such while.

    A thread writes them, so that there are lines while a library computes and says nothing.

    Args:
        stream: The stream that lines go to.
        seconds: The while.
    """
    last, ended = "", threading.Event()

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        how_far = f": {done:g} of {total:g}" if total > 1 else ""
        last = f"{printable(what)}{how_far}"

    def write() -> None:
        started = time.monotonic()
        while not ended.wait(seconds):
            stream.write(f"{last or 'working'} ({time.monotonic() - started:.0f} s)\n")
            stream.flush()

    thread = threading.Thread(target=write, name="vitedge-progress", daemon=True)
    thread.start()
    try:
        yield show
    finally:
        ended.set()
        thread.join()


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """The terminal that stderr is now: ``silence.quiet`` redirects stderr while engines start."""
    with os.fdopen(
        os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors
    ) as stream:
        yield stream
