"""What several commands print."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from vitedge.printable import json_text, printable


def command_line() -> str:
    """What was typed, ready to be typed again."""
    return shlex.join(["vitedge", *sys.argv[1:]])


def print_json(value: Any) -> None:
    """Prints a result for programs to read."""
    click.echo(json_text(value, default=str))


def echo(words: str, *, err: bool = False) -> None:
    """Prints one line for people, whoever's names are in it."""
    click.echo(printable(words), err=err)


def warn(words: str) -> None:
    """Prints a warning to stderr."""
    echo(f"warning: {words}", err=True)
