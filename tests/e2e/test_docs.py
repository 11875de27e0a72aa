"""The documentation is built, its links lead somewhere, and what stands in it runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vitedge.cli import main

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
# The first page trains a model for two minutes; `make demo` trains one to its end.
LONG, SHORT = "--epochs 60", "--epochs 12"

BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The kind and the text of each block that runs: commands behind ``$``, and programs."""
    return BLOCK.findall((DOCS / f"{page}.md").read_text())


def all_pages() -> list[Path]:
    """Every page but the decisions, which one page lists."""
    return [path for path in DOCS.rglob("*.md") if path.parent.name != "decisions"]


def steps_of(kind: str, text: str) -> list[str]:
    """The programs and the command lines of a block."""
    if kind == "python":
        return [text]
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def run(kind: str, step: str) -> tuple[int, str]:
    """Runs a step in the current folder; its exit code, and what it said if that is not 0.

    Commands run in this process, as starting TensorFlow for each would take most of their time;
    the README's run in a shell.
    """
    name, *words = shlex.split(step) if kind == "console" else [""]
    if name == "vitedge" and "|" not in words:
        result = CliRunner().invoke(main, words)
        return result.exit_code, f"{result.output}\n{result.exception!r}"
    command = [sys.executable, "-c", step] if kind == "python" else ["bash", "-c", step]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_every_page_with_something_to_run_is_run() -> None:
    # Pages of clients have tests of their own.
    for path in [*DOCS.glob("*.md"), *DOCS.glob("commands/*.md")]:
        page = path.relative_to(DOCS).with_suffix("").as_posix()
        assert page in PAGES or not blocks(page), page


def test_every_command_has_a_page() -> None:
    assert {f"commands/{name}" for name in main.list_commands(click.Context(main))} == set(
        COMMAND_PAGES
    )


def test_one_page_has_the_training_that_is_cut_short_here() -> None:
    assert sum(LONG in text for page in PAGES for _, text in blocks(page)) == 1


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
def test_the_commands_and_programs_of_the_pages_work_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for kind, text in blocks(page):
            for step in steps_of(kind, text):
                code, said = run(kind, step.replace(LONG, SHORT))
                assert code == 0, f"{page}: {step}\n{said}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own-classes" / "index.html").exists()
