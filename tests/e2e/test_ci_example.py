"""The workflow in examples/ci: its commands are ones that vitedge has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vitedge.cli import main

FOLDER = Path(__file__).parents[2] / "examples" / "ci"
WORKFLOW = (FOLDER / "vitedge.yml").read_text()


def commands() -> list[str]:
    readme = (FOLDER / "README.md").read_text()
    # What the shell puts in for $limits stands just above its use.
    limits = re.findall(r'limits="(?:\$limits )?(.*)"', WORKFLOW)
    text = WORKFLOW.replace("$limits", " ".join(limits))
    typed = re.findall(r"^\$ (vitedge .*)$", readme, re.MULTILINE)
    return typed + re.findall(r"^ +(vitedge (?:bench|check|convert) .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_every_command_parses(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    found = main.commands[name]
    # An unknown option, a missing argument or a value of the wrong type raises.
    found.make_context(name, arguments, parent=click.Context(main))


def test_the_workflow_checks_accuracy_latency_and_device() -> None:
    assert len(commands()) == 5
    (check,) = (command for command in commands()[2:] if " check " in command)
    assert {"--max-drop", "--max-slowdown", "--require-device", "--junit", "--baseline"} <= set(
        check.split()
    )
