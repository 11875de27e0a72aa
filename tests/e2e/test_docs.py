"""The documentation is built, its links lead somewhere, and what stands in it runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Pages whose blocks run, in this order and in one folder: later ones go on where the first ended.
PAGES = (*("index", "own-classes", "own-model", "reports", "embeddings", "ci", "files", "plugins"),)
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The kind and the text of each block that runs: commands behind ``$``, and programs."""
    return BLOCK.findall((DOCS / f"{page}.md").read_text())


def commands_of(kind: str, text: str) -> list[list[str]]:
    if kind == "python":
        return [[sys.executable, "-c", text]]
    return [["bash", "-c", line[2:]] for line in text.splitlines() if line.startswith("$ ")]


def test_every_page_with_something_to_run_is_run() -> None:
    others = {"clients", "decisions"}  # clients have tests of their own
    for page in DOCS.glob("*.md"):
        assert page.stem in PAGES or not blocks(page.stem), page.name
    assert sum(len(blocks(page)) for page in PAGES) > 15
    assert others <= {each.name for each in DOCS.iterdir()}


def test_links_lead_to_files() -> None:
    pages = [*DOCS.glob("*.md"), *DOCS.glob("clients/*.md"), ROOT / "README.md"]
    for page in [*pages, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_page_has_its_place_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in [*DOCS.glob("*.md"), *DOCS.glob("clients/*.md")]:
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
