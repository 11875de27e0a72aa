"""Words and marks of the site and of the Raspberry Pi's page stand out in light and in dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vitedge.report.colours import LEAST_CONTRAST, contrast

ROOT = Path(__file__).parents[3]
SITE = ROOT / "vitedge/website/page/style.css"
PI = ROOT / "examples/raspberry_pi/page.html"

# A style sheet, a colour on it, and the colour behind.
PAIRS = [
    *((SITE, name, "back") for name in ("text", "soft", "button")),
    *((SITE, name, "bar") for name in ("text",)),
    *((SITE, name, "button") for name in ("on-button",)),
    *((PI, name, "paper") for name in ("ink", "faint", "full")),
]


def colours(path: Path, *, dark: bool) -> dict[str, str]:
    """The variables of a mode as ``#RRGGBB``; the dark ones stand behind a media query."""
    light, _, rest = path.read_text().partition("@media (prefers-color-scheme: dark)")
    found = dict(
        re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", rest.split("}")[0] if dark else light)
    )
    return {name: long(value) for name, value in found.items()}


def long(colour: str) -> str:
    return "#" + "".join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("path", "name", "behind"), PAIRS, ids=lambda each: getattr(each, "stem", each)
)
def test_it_stands_out(path: Path, name: str, behind: str, dark: bool) -> None:
    found = colours(path, dark=dark)
    assert contrast(found[name], found[behind]) >= LEAST_CONTRAST
