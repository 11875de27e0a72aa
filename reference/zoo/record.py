"""The record of all results, which lies beside this program and outlives a folder of models.

A machine that has none of the models measures some families; the others keep what was measured
before. A family has a result for each kind of processor that it was measured on. Rows that were
measured before there was a record were taken from the page, rounded as they stood there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from reference.zoo.measuring import Result, result_of
from vitedge.files.staging import write_whole

RECORD = Path(__file__).parent / "measured.json"

_SHOWN = "VNNI"
"""The processors that the table is of, where there is a result; int8 is made for such."""


def read_record(path: Path) -> list[Result]:
    """All results on record, by name; none where there is no file."""
    if not path.exists():
        return []
    return [result_of(values) for values in json.loads(path.read_text("utf-8"))]


def write_record(path: Path, results: Iterable[Result]) -> None:
    """Writes the record, a line for each result."""
    lines = ",\n".join(json.dumps(asdict(each)) for each in results)
    write_whole(path, f"[\n{lines}\n]\n")


def merged(recorded: Sequence[Result], found: Sequence[Result]) -> list[Result]:
    """The record with new results, by name; of one family the newest last.

    A result takes the place of that of the same family on the same kind of processor. A family that
    was only read again keeps what was measured of its artefacts, if it is still read.
    """
    known: dict[str, list[Result]] = {}
    for each in recorded:
        known.setdefault(each.name, []).append(each)
    for each in found:
        before = known.get(each.name, [])
        is_read = each.road in ("by name", "lifted")
        if not is_read:
            known[each.name] = [each]
        elif each.formats or not any(one.formats for one in before):
            others = [one for one in before if one.formats and one.products != each.products]
            known[each.name] = [*others, each]
        else:
            known[each.name] = [
                replace(each, formats=one.formats, products=one.products)
                for one in before
                if one.formats
            ]
    return [each for name in sorted(known) for each in known[name]]


def of_each_family(results: Sequence[Result]) -> list[Result]:
    """The result of each family that is shown, by name: that with VNNI, else the newest."""
    found: dict[str, Result] = {}
    for each in results:
        before = found.get(each.name)
        if before is None or each.products == _SHOWN or before.products != _SHOWN:
            found[each.name] = each
    return [found[name] for name in sorted(found)]
