"""Bounds on what a file may make of itself, checked before memory is taken.

What lies in a file as it is takes no more memory than the file is long, and is never refused. What
a file inflates to, or only claims, is bounded: an archive of a megabyte may hold terabytes of
zeros. There is one number, the option ``--max-source-size`` and the variable behind it, which the
processes that vitedge starts inherit.
"""

from __future__ import annotations

import os
import re

from vitedge.errors import SizeError, UsageError

VARIABLE, OPTION = "VITEDGE_MAX_SOURCE_SIZE", "--max-source-size"
DEFAULT_BYTES = 2 << 30
"""Below the memory of the machines that convert models, and above every compressed model seen."""

_UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MIB": 1 << 20, "GIB": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Z]*)")

JSON_TIMES = 32
"""How many times its length a JSON text may take as objects: ``{},`` becomes 64 bytes and more."""

# Pillow decodes to 4 bytes, and a conversion holds the picture before and after; a third for the
# decoder. With the default it is the bound that Pillow itself has: 178,956,970 pixels.
_BYTES_PER_PIXEL = 12
_LARGEST_SHOWN = 10**15


def parse_size(text: str) -> int:
    """Bytes that a text such as ``8GB``, ``512 MiB`` or ``1000000`` names.

    Raises:
        UsageError: The text names no size.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None or match[2] not in _UNITS or int(match[1]) == 0:
        raise UsageError(f"'{text}' is not a size; write it as 8GB or 512MB ({OPTION})")
    return int(match[1]) * _UNITS[match[2]]


def was_raised() -> bool:
    """Whether somebody chose the bound."""
    return bool(os.environ.get(VARIABLE))


def most_bytes() -> int:
    """The most bytes that a source may inflate to.

    Raises:
        UsageError: The variable holds no size.
    """
    text = os.environ.get(VARIABLE)
    return parse_size(text) if text else DEFAULT_BYTES


def most_pixels() -> int:
    """The most pixels of a picture."""
    return most_bytes() // _BYTES_PER_PIXEL


def engine_bytes(model_bytes: int) -> int:
    """The most memory that an engine may take to run a model of so many bytes on a CPU.

    Engines hold weights in the file's order and in their own, in float where the file has halves or
    integers, beside activations; each thread has a stack of 8 MiB.
    """
    threads = (os.cpu_count() or 1) * (16 << 20)
    return 2 * most_bytes() + 6 * model_bytes + threads


def refuse_inflation(what: str, claimed: int, held: int = 0) -> None:
    """Refuses what would take more memory than the bound, and than lies in the file.

    Args:
        what: The file or its part, for the message.
        claimed: Bytes that it would take.
        held: Bytes of the file itself, which are allowed in any case.

    Raises:
        SizeError: The content is too large.
    """
    if claimed > max(held, most_bytes()):
        shown = min(claimed, _LARGEST_SHOWN)
        raise SizeError(
            f"{what} would take {_words(shown)} of memory, and {_words(most_bytes())} are allowed; "
            f"if you trust the file, give {OPTION} {shown // 10**9 + 1}GB"
        )


def refuse_long_text(what: str, length: int, *, times: int = JSON_TIMES) -> None:
    """Refuses a text that would become more objects than fit the bound.

    Args:
        what: The file or its part, for the message.
        length: Its bytes.
        times: The memory of its objects, as a multiple of its bytes.

    Raises:
        SizeError: The text is too long.
    """
    refuse_inflation(f"the content of {what}", length * times)


def _words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 10**8 else f"{size / 1e6:,.1f} MB"
