"""What several commands print."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import click


def command_line() -> str:
    """What was typed, ready to be typed again."""
    return shlex.join(["vitedge", *sys.argv[1:]])


def warn(words: str) -> None:
    """Prints a warning to stderr."""
    click.echo(f"warning: {words}", err=True)


def print_json(value: Any) -> None:
    """Prints a result for programs to read."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
