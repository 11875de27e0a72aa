"""Colours of marks, dark enough on light paper and light enough on dark paper.

A chart names a colour by ``mark``, which is a variable of CSS; ``rules`` gives the variables their
values, one for each mode, so that one drawing serves both.
"""

from __future__ import annotations

import re
from colorsys import hls_to_rgb, rgb_to_hls

# The pages' own, ``--paper`` in page.css.
LIGHT_PAPER, DARK_PAPER = "#ffffff", "#16181c"

# Level AA of WCAG 2.2 for text, and more than it asks of marks: https://www.w3.org/TR/WCAG22/
LEAST_CONTRAST = 4.5
_AIM = LEAST_CONTRAST + 0.1  # what rounding to eight bits may take

_STEPS = 200
_NAMED = re.compile(r"--mark-([0-9a-f]{6})")


def mark(colour: str) -> str:
    """A colour as charts name it.

    Args:
        colour: ``#RRGGBB``; its hue stays, and its lightness follows from the paper.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise ValueError(f"'{colour}' is not a colour; write #RRGGBB")
    return f"var(--mark-{colour[1:].lower()})"


def rules(html: str) -> str:
    """CSS that gives each colour which is named in a page its values."""
    names = sorted(set(_NAMED.findall(html)))
    if not names:
        return ""
    light, dark = (
        " ".join(f"--mark-{name}: {readable(f'#{name}', paper)};" for name in names)
        for paper in (LIGHT_PAPER, DARK_PAPER)
    )
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )


def readable(colour: str, paper: str) -> str:
    """The colour of this hue nearest to one that stands out from the paper."""
    hue, lightness, saturation = rgb_to_hls(*_parts(colour))
    target = 0.0 if _luminance(paper) > 0.5 else 1.0
    for step in range(_STEPS + 1):
        moved = lightness + (target - lightness) * step / _STEPS
        parts = hls_to_rgb(hue, moved, saturation)
        found = "#" + "".join(f"{round(255 * part):02x}" for part in parts)
        if contrast(found, paper) >= _AIM:
            return found
    raise ValueError(f"no lightness of {colour} stands out from {paper}")


def contrast(one: str, other: str) -> float:
    """The contrast of two colours ``#RRGGBB`` by WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in _parts(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
