"""Labels that begin with a WordNet id, as ImageNet's lists have them: ``n02877765 bottlecap``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDNET = re.compile(r"(n\d{8})[\s,:_-]+(\S.*)")


def wordnet_id(label: str) -> str | None:
    """The id that a label begins with, or None."""
    found = _WORDNET.fullmatch(label.strip())
    return None if found is None else found[1]


def names_for_people(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels without their WordNet ids; as they are unless every one has an id."""
    found = [_WORDNET.fullmatch(label.strip()) for label in labels]
    return tuple(each[2] for each in found if each) if all(found) else tuple(labels)
