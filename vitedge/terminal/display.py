"""What people see while they wait: progress on stderr, and nothing where nobody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from vitedge.terminal.printable import printable
from vitedge.terminal.progress import Progress

_SECONDS_A_LINE = 30.0


@contextmanager
def progress_on_stderr(*, tells_time: bool = False) -> Iterator[Progress]:
    """A bar with the time left; where stderr is no terminal, a line now and then.

    Args:
        tells_time: The words say how much time is left; the bar says how long they have been the
            same.
    """
    if not sys.stderr.isatty():
        yield lines_now_and_then(sys.stderr)
        return
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    class Seconds(rich_progress.ProgressColumn):
        """How long the words have been the same, once that is long."""

        def render(self, task: rich_progress.Task) -> Text:
            seconds = task.elapsed or 0.0
            return Text(f"{seconds:.0f} s" if seconds >= 1 else "")

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=30),
        rich_progress.TextColumn("{task.completed:g}/{task.total:g}"),
        Seconds() if tells_time else rich_progress.TimeRemainingColumn(),
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


def lines_now_and_then(
    stream: TextIO, now: Callable[[], float] = time.monotonic, seconds: float = _SECONDS_A_LINE
) -> Progress:
    """Progress for a log file: the first line after a while, and one in each such while.

    Args:
        stream: Where lines go.
        now: The time in seconds.
        seconds: How long nothing is written after the start, and after each line.
    """
    last = now()

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        if now() - last < seconds:
            return
        last = now()
        how_far = f": {done:g} of {total:g}" if total > 1 else ""
        stream.write(f"{printable(what)}{how_far}\n")
        stream.flush()

    return show


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """The terminal that stderr is now: ``silence.quiet`` redirects stderr while engines start."""
    with os.fdopen(
        os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors
    ) as stream:
        yield stream
