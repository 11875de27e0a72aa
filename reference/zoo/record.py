"""The record of all results, which lies beside this program and outlives a folder of models.

A machine that has none of the models measures some families; the others keep what was measured
before. Rows that were measured before there was a record were taken from the page, rounded as they
stood there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from reference.zoo.measuring import Result, result_of
from vitedge.files.staging import write_whole

RECORD = Path(__file__).parent / "measured.json"


def read_record(path: Path) -> list[Result]:
    """All results on record, by name; none where there is no file."""
    if not path.exists():
        return []
    return [result_of(values) for values in json.loads(path.read_text("utf-8"))]


def write_record(path: Path, results: Iterable[Result]) -> None:
    """Writes the record, a line for each family."""
    lines = ",\n".join(json.dumps(asdict(each)) for each in results)
    write_whole(path, f"[\n{lines}\n]\n")


def merged(recorded: Sequence[Result], found: Sequence[Result]) -> list[Result]:
    """The record with new results in the place of older ones of the same family, by name.

    A family that was only read again keeps what was measured of its artefacts, if it is still read.
    """
    known = {each.name: each for each in recorded}
    for each in found:
        before = known.get(each.name)
        is_read = each.road in ("by name", "lifted")
        known[each.name] = each
        if before is not None and before.formats and not each.formats and is_read:
            kept = replace(each, formats=before.formats, products=before.products)
            known[each.name] = kept
    return [known[name] for name in sorted(known)]
