"""What people see while they wait: progress on stderr, and nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShowProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much; 0 if unknown."""


@contextmanager
def progress_on_stderr() -> Iterator[ShowProgress]:
    """A bar with the time left; silent unless stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:g}/{task.total:g}"),
        TimeRemainingColumn(),
    )
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=1)
        described = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal described
            if what != described:
                bar.reset(task, description=what, total=total or 1)
                described = what
            bar.update(task, completed=done, total=total or 1)

        yield show
