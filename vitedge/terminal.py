"""What people see while they wait: progress on stderr, and nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitedge.printable import printable
from vitedge.progress import Progress


@contextmanager
def progress_on_stderr(*, tells_time: bool = False) -> Iterator[Progress]:
    """A bar with the time left; silent unless stderr is a terminal.

    Args:
        tells_time: The words say how much time is left, so the bar does not.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=30),
        rich_progress.TextColumn("{task.completed:g}/{task.total:g}"),
        *([] if tells_time else [rich_progress.TimeRemainingColumn()]),
    )
    silent = not console.is_terminal
    with rich_progress.Progress(*columns, console=console, transient=True, disable=silent) as bar:
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
