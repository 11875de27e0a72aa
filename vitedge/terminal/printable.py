"""Text of others, made fit for a terminal: labels, file names, what engines and devices say.

Whatever foreign text goes into an output passes through here, so that it can neither move the
cursor, colour or retitle the terminal, nor reverse or split a line.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

# Controls, invisible format characters (among them those that reverse text), lone surrogates (bytes
# of file names that are not UTF-8), and separators that end a line.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Join letters of Indic and Arabic script, and the parts of an emoji; they move nothing.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""The text with every character that is none of writing spelt as Python does: ``\x1b``.

    Args:
        text: Anything.

    Returns:
        One line that can be printed, put into XML and encoded.
    """
    return _replaced(text, lambda character: ascii(character)[1:-1])


def one_line(text: str, most: int = 300) -> str:
    """Somebody's words in one bounded line: white space is single, the rest is cut."""
    # Cut before it is looked at, for it may be gigabytes.
    line = printable(" ".join(text[: 4 * most].split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def json_text(
    value: Any, *, allow_nan: bool = True, default: Callable[[Any], Any] | None = None
) -> str:
    """Indented JSON that can be printed; it reads back to the same value."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=allow_nan, default=default)
    return "\n".join(
        _replaced(line, lambda character: json.dumps(character)[1:-1]) for line in text.split("\n")
    )


def _replaced(text: str, spell: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(spell(each) if _is_unfit(each) else each for each in text)


def _is_unfit(character: str) -> bool:
    if character.isprintable() or character in _JOINERS:
        return False
    # The last two of each plane, and 32 more, are not characters (Unicode 23.7); XML forbids some.
    code = ord(character)
    is_none = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return is_none or unicodedata.category(character) in _UNFIT
