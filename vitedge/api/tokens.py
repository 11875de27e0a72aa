"""``--tokens`` and ``--width``: the share of the work that is left, or the way to find it."""

from __future__ import annotations

import math
import re

from vitedge.errors import UsageError
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import TokenSearch
from vitedge.rewrite.merge_tokens import Merging

AUTO = "auto"
MERGES = ("alike", "constant")

_STEP = re.compile(r"(\d{1,6}):(\d{1,6})", re.ASCII)


def read_tokens(
    tokens: float | str, *, constant: bool, minutes: float | None
) -> TokenOptions | TokenSearch:
    """Reads what ``tokens`` says.

    Args:
        tokens: A share of the work such as 0.7; ``auto``; or a schedule of blocks, from 1, and
            tokens that are merged behind their attention, such as ``4:53,8:45``.
        constant: Merge the same tokens in every picture.
        minutes: The longest time that ``auto`` may search.

    Raises:
        UsageError: ``tokens`` is neither a share, nor a schedule, nor ``auto``.
    """
    if tokens == AUTO:
        if minutes is not None and not 0 < minutes < math.inf:
            raise UsageError(f"--minutes is a time above 0, not {minutes:g}")
        return TokenSearch(minutes, constant)
    if minutes is not None:
        raise UsageError("--minutes says how long --tokens auto may search; give that, or neither")
    if isinstance(tokens, str) and ":" in tokens:
        return TokenOptions(constant=constant, schedule=_schedule(tokens))
    try:
        share = float(tokens)
    except ValueError as error:
        raise UsageError(
            f"--tokens is a share of the work such as 0.7, a schedule such as 4:53,8:45, or auto; "
            f"not '{tokens}'"
        ) from error
    if not 0 < share < 1:
        raise UsageError(f"--tokens is the share of the work that is left, 0 to 1, not {share:g}")
    return TokenOptions(share, constant)


def read_width(width: float | None) -> float | None:
    """Reads what ``width`` says: a share of the work between 0 and 1; None stays None.

    Raises:
        UsageError: ``width`` is not such a share.
    """
    if width is not None and not 0 < width < 1:
        raise UsageError(f"--width is the share of the work that is left, 0 to 1, not {width:g}")
    return width


def _schedule(text: str) -> tuple[Merging, ...]:
    steps: list[Merging] = []
    for part in text.split(","):
        matched = _STEP.fullmatch(part.strip())
        if matched is None:
            raise UsageError(
                f"'{part}' in --tokens is not a block and the tokens merged behind it, such as 4:53"
            )
        block, count = (int(each) for each in matched.groups())
        if not block or not count or (steps and block - 1 <= steps[-1].block):
            raise UsageError(
                f"--tokens {text}: blocks count from 1 and come in their order, and each merges at "
                "least one token"
            )
        steps.append(Merging(block - 1, count))
    return tuple(steps)
