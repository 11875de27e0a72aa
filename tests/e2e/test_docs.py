"""The documentation is built, its links lead somewhere, and what stands in it runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Pages whose blocks run, in this order and in one folder: later ones go on where the first ended.
COMMAND_PAGES = tuple(
    f"commands/{name}"
    for name in (
        *("targets", "completion", "train", "import", "convert", "inspect", "predict", "bench"),
        *("check", "compare", "pick", "labels", "deploy", "demo"),
    )
)
PAGES = (
    *("index", "own-classes", "own-model", "reports", "embeddings", "ci", "files", "plugins"),
    *("languages", "troubleshooting", *COMMAND_PAGES),
)
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The kind and the text of each block that runs: commands behind ``$``, and programs."""
    return BLOCK.findall((DOCS / f"{page}.md").read_text())


def all_pages() -> list[Path]:
    """Every page but the decisions, which one page lists."""
    return [path for path in DOCS.rglob("*.md") if path.parent.name != "decisions"]


def commands_of(kind: str, text: str) -> list[list[str]]:
    if kind == "python":
        return [[sys.executable, "-c", text]]
    return [["bash", "-c", line[2:]] for line in text.splitlines() if line.startswith("$ ")]


def test_every_page_with_something_to_run_is_run() -> None:
    # Pages of clients have tests of their own.
    for path in [*DOCS.glob("*.md"), *DOCS.glob("commands/*.md")]:
        page = path.relative_to(DOCS).with_suffix("").as_posix()
        assert page in PAGES or not blocks(page), page


def test_every_command_has_a_page() -> None:
    from vitedge.cli import main

    assert {f"commands/{name}" for name in main.list_commands(click.Context(main))} == set(
        COMMAND_PAGES
    )


def test_enough_of_the_documentation_runs() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 25


def test_links_lead_to_files() -> None:
    pages = [*all_pages(), ROOT / "README.md"]
    for page in [*pages, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_page_has_its_place_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in all_pages():
        assert f": {page.relative_to(DOCS)}\n" in menu, page.name


@pytest.mark.slow
def test_the_commands_and_programs_of_the_pages_work_in_their_order(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for page in PAGES:
        for kind, text in blocks(page):
            for command in commands_of(kind, text):
                done = subprocess.run(
                    command,
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{page}: {command[-1]}\n{done.stderr}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own-classes" / "index.html").exists()
