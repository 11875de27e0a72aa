"""What stands around the package fits it."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import vitedge
from vitedge.errors import UnavailableError, missing_package

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_has_one_source() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "vitedge/__init__.py"
    assert importlib.metadata.version("vitedge") == vitedge.__version__


def test_no_version_of_python_is_refused_that_is_not_yet_known() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_without_tensorflow_on_python_3_14_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "pip install 'vitedge[convert]'" in str(absent("tensorflow"))
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    words = str(absent("tensorflow"))
    assert "Python 3.11 to 3.13" in words
    assert "pip install" not in words
    assert "pip install 'vitedge[convert]'" in str(absent("onnx"))


def absent(package: str) -> UnavailableError:
    try:
        raise ModuleNotFoundError(f"No module named '{package}'")
    except ModuleNotFoundError:
        return missing_package(package, "convert")


def test_the_files_that_contributing_names_exist() -> None:
    import re

    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"\]\(([\w./-]+)\)|`((?:vitedge|tests|docs)/[\w./]+\.(?:py|md))`", text):
        found = path[0] or path[1]
        if "NAME" not in found:
            assert (ROOT / found).exists(), found


def test_the_words_that_people_read_are_those_of_the_glossary() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_words.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode == 0


def words_program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("words", ROOT / "scripts" / "check_words.py")
    assert spec is not None
    assert spec.loader is not None
    words = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(words)
    return words


def test_the_check_of_words_finds_what_it_is_for() -> None:
    words = words_program()
    tree = ast.parse('raise ValueError(f"{x} is no image")\nthere = "is no image"')
    said = [text.value for node in ast.walk(tree) for text in words._said(node)]
    assert said == [" is no image"]
    assert list(words._of("place", said[0]))
    assert not list(words._of("place", "there is no image"))


def test_programs_beside_the_package_import_modules_that_exist() -> None:
    programs = [
        path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).glob("*.py")
    ]
    assert len(programs) > 5
    for path in programs:
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None)
            if module and module.split(".")[0] in ("vitedge", "tests"):
                assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / module.replace(".", "/") / "__init__.py"
                ).exists(), f"{path.name}: {module}"


def test_the_check_of_words_finds_noun_clauses_and_pronouns_without_a_noun() -> None:
    words = words_program()
    for summary in ("What a report may be.", "How it ended.", "It.", "Of all values.", "The same."):
        assert list(words._of("place", summary, words.SUMMARIES)), summary
    for summary in ("The limits of a report.", "Of the two, the first is taken.", "Its content."):
        assert not list(words._of("place", summary, words.SUMMARIES)), summary
    for text in ("It loads nothing but weights.", "all but one", "Kept for nothing.", "is no ViT"):
        assert list(words._of("place", text)), text


def test_the_check_of_words_reads_the_entries_of_a_docstring() -> None:
    words = words_program()
    text = "A summary.\n\n    Args:\n        task: What outputs mean.\n        data: The images.\n"
    assert words._ENTRY.findall(text) == ["What outputs mean.", "The images."]
    for entry in ("What outputs mean.", "Of the images.", "They are.", "How."):
        assert list(words._of("place", entry, words.ENTRIES)), entry
    for entry in ("The meaning of the outputs.", "``data`` is empty.", "One for each image."):
        assert not list(words._of("place", entry, words.ENTRIES)), entry
