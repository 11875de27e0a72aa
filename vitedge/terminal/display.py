"""What people see while they wait: progress on stderr, and nothing where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from vitedge.terminal.printable import printable
from vitedge.terminal.progress import Progress


@contextmanager
def progress_on_stderr(*, tells_time: bool = False) -> Iterator[Progress]:
    """A bar with the time left; silent unless stderr is a terminal.

    Args:
        tells_time: The words say how much time is left; the bar says how long they have been the
            same.
    """
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
        rich_progress.Progress(
            *columns, console=Console(file=stream), transient=True, disable=not stream.isatty()
        ) as bar,
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
def _own_stderr() -> Iterator[TextIO]:
    """The terminal that stderr is now: ``chatter.quiet`` redirects stderr while engines start."""
    if not sys.stderr.isatty():
        yield sys.stderr
        return
    with os.fdopen(
        os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors
    ) as stream:
        yield stream
