"""What stands around the package fits it."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

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
