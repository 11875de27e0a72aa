"""The pages about clients name commands and options that exist, and programs that compile."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vitedge.cli import main

PAGES = sorted((Path(__file__).parents[2] / "docs" / "clients").glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_about_a_client_can_be_followed(page: Path) -> None:
    programs = blocks(page, "python")
    assert programs or blocks(page, "js")
    for program in programs:
        compile(program, page.name, "exec")
    (console,) = blocks(page, "console")
    program, name, *arguments = shlex.split(console.removeprefix("$ "))
    assert program == "vitedge"
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments)  # an unknown option is an error


def test_the_readme_leads_to_every_page() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert all(f"docs/clients/{page.name}" in readme for page in PAGES)
