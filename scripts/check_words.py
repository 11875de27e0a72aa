"""Finds words that we do not use: in the documentation, in messages and in docstrings.

``python scripts/check_words.py`` prints each with its place and what to write in its stead, and
exits with 1 where there is one. ``make check`` runs it. ``docs/glossary.md`` has the words to use.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "examples/*/README.md")

# A pattern, and what to write in its stead.
WORDS = {
    r"(?<![Tt]here )\b(?:is|are) no (?!longer\b|more\b|one\b|better\b|worse\b)\w+": "is not a",
    r"\blacks or garbles\b": "is incomplete or malformed",
    r"\ball the same\b": "nevertheless, or: anyway",
    r"(?<!None )\bfor nothing\b": "without effect, or: at no cost",
    r"\b(?:nothing|none|nobody|all|every\w*|any\w*) but (?!not\b|that\b|it\b)\w+": "only/except",
    r"\bof others neither\b": "say which models an option works for",
    r"\bnobody (?:knows|said|says|named|names)\b": "is unknown, or: is not given",
    r"\bin the place of\b": "instead of",
    r"\b(?:in silence|without a word)\b": "without a message",
    r"\bflatters?\b": "is too high",
    r"\bas (?:it stands|they stand)\b": "unchanged",
    r"\bmay repeat\b": "may be repeated",
    r"\bspelled\b(?! out)": "written",
    r"\blifted out of\b": "kept in float",
    r"\bleft in float\b": "kept in float",
    r"\bartifacts?\b(?![/.`:\w])": "artefact",
    r"\bQ8\b": "int8",
}

# A sentence that is a noun clause ("What a report may be."), a pronoun without its noun ("It."), or
# what begins with "Of" and has no end ("Of all values."): docstrings begin with a noun or a verb.
SUMMARIES = {
    r"^(?:What|How|Which|Who|Whom|Why|Where|When)\b": "a noun ('The ...') or a verb first",
    r"^(?:It|Those|These|They|Both|The same|The others?)\.": "the noun that is meant",
    r"^(?:Of|For|By|In|With|As) (?:[\w`']+ ){1,5}[\w`']+\.$": "a noun or a verb first",
}

# The same faults in the text of an entry under Args, Attributes or Raises ("task: What the outputs
# mean.", "UsageError: They are.").
_QUESTIONS = "What|How|Which|Who|Whom|Whose|Why|Where|When"
_ORPHANS = "It|They|Those|These|Both|The same"
_BEGINNINGS = "Of|As|By|In|At|To|From|With|Without|Within|For|Under|Behind|Beside|Among|On"
ENTRIES = {
    rf"^(?:{_QUESTIONS})\b": "a noun ('The ...') first",
    rf"^(?:{_ORPHANS})\b": "the noun that is meant",
    rf"^(?:{_BEGINNINGS})\b": "a noun first",
}
_ENTRY = re.compile(r"^ +[\w*.]+(?: \([^)]*\))?: (.*)$", re.MULTILINE)

# Functions of the command line that say something to people, beside `raise`.
_SAYING = {"echo", "warn", "say"}


def main() -> None:
    """Checks everything."""
    found = [*_in_prose(), *_in_messages(), *_in_docstrings()]
    for place, words, instead in found:
        print(f"{place}: '{words}': write {instead}")
    sys.exit(bool(found))


def _in_prose() -> Iterator[tuple[str, str, str]]:
    for pattern in PROSE:
        for path in sorted(ROOT.glob(pattern)):
            text = re.sub(r"```.*?```|`[^`\n]*`", _blank, path.read_text(), flags=re.DOTALL)
            for number, line in enumerate(text.splitlines(), start=1):
                yield from _of(f"{path.relative_to(ROOT)}:{number}", line)


def _blank(code: re.Match[str]) -> str:
    """Code is left out; its lines still count."""
    return "\n" * code[0].count("\n")


def _in_messages() -> Iterator[tuple[str, str, str]]:
    for path in sorted((ROOT / "vitedge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for text in _said(node):
                place = f"{path.relative_to(ROOT)}:{text.lineno}"
                yield from _of(place, str(text.value))


def _in_docstrings() -> Iterator[tuple[str, str, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted((ROOT / "vitedge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text is None:
                continue
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
            yield from _of(place, " ".join(text.split()))
            yield from _of(place, text.split("\n\n")[0], SUMMARIES)
            for entry in _ENTRY.findall(text):
                yield from _of(place, entry, ENTRIES)


def _said(node: ast.AST) -> Iterator[ast.Constant]:
    """The texts of an error, of a line for people, or of an option's help."""
    if (
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in _SAYING)
        or (isinstance(node, ast.keyword) and node.arg in ("help", "epilog"))
    ):
        yield from _texts(node)


def _texts(node: ast.AST) -> Iterator[ast.Constant]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each


def _of(place: str, text: str, words: Mapping[str, str] = WORDS) -> Iterator[tuple[str, str, str]]:
    for pattern, instead in words.items():
        for match in re.finditer(pattern, text):
            yield place, match[0], instead


if __name__ == "__main__":
    main()
