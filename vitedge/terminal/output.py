"""Output that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from vitedge.terminal.printable import json_text, printable

_KEPT = "vitedge.kept"


def command_line() -> str:
    """The command as it was typed, ready to be typed again."""
    return shlex.join(["vitedge", *sys.argv[1:]])


def next_command(words: Sequence[str]) -> None:
    """Says what people do next, where a person reads."""
    if sys.stdout.isatty():
        echo(f"next: {shlex.join(['vitedge', *words])}")


def say_written(paths: Iterable[Path | None]) -> None:
    """Says which files were written; None is one that nobody asked for."""
    written = [str(path) for path in paths if path is not None]
    if written:
        echo(f"wrote {', '.join(written)}")


def when_interrupted(words: str) -> None:
    """Notes what Ctrl-C will leave of the command that runs."""
    click.get_current_context().meta[_KEPT] = words


def interruption_words(ctx: click.Context) -> str:
    """The files that Ctrl-C left of the command; empty when it makes none that could be kept."""
    words: str = ctx.meta.get(_KEPT, "")
    return words


def print_json(value: Any) -> None:
    """Prints a result for programs to read."""
    click.echo(json_text(value, default=str))


def echo(words: str, *, err: bool = False) -> None:
    """Prints one line for people, whoever's names are in it."""
    if err:
        # Not click's own way around sys.stderr, through which a line lands amid the progress bar.
        print(printable(words), file=sys.stderr, flush=True)
    else:
        click.echo(printable(words))


def warn(words: str) -> None:
    """Prints a warning to stderr."""
    echo(f"warning: {words}", err=True)
