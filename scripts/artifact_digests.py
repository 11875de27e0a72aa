#!/usr/bin/env python3
"""Shows that a change of form leaves every artefact as it was, to the byte.

    python scripts/artifact_digests.py store before.json     # on the old code
    python scripts/artifact_digests.py compare before.json   # on the new code, same machine

It takes the SHA-256 of every file that the contract tests' models give in each format and
precision, of what ``convert`` writes of a few golden checkpoints (metadata and parity included),
and of the logits of every golden checkpoint. Matrix products round otherwise on other processors,
so digests are compared on one machine only. ``compare`` prints what differs and exits with 1.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.contract import test_converters as contract
from tests.support.golden_cases import golden_cases
from tests.support.models import random_network
from vitedge.artifacts.metadata import files_of
from vitedge.converters.tools import converters, precisions_of
from vitedge.importers import read_model
from vitedge.network.evaluate import forward
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import all_precisions

CONVERTED = ("timm_vit", "timm_deit_distilled", "timm_qk_norm", "hugging_face_dinov2")


def digest_of(path: Path) -> str:
    """One digest of an artefact's file or files."""
    parts = sorted(files_of(path), key=lambda each: each.suffix)
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def contract_digests() -> Iterator[tuple[str, str]]:
    """Of every contract model in every format and precision."""
    for case in contract.CASES:
        for converter in converters():
            for precision in precisions_of(converter):
                with tempfile.TemporaryDirectory() as folder:
                    path = contract.write(
                        random_network(3, **case.model),
                        converter,
                        precision,
                        Path(folder),
                        case.batch,
                    )
                    yield f"contract/{case.id}/{converter.format}/{precision}", digest_of(path)


def converted_digests() -> Iterator[tuple[str, str]]:
    """Of what the whole pipeline writes."""
    for case in golden_cases():
        if case.name not in CONVERTED:
            continue
        with tempfile.TemporaryDirectory() as folder:
            options = ConvertOptions(
                formats=all_formats(),
                precisions=all_precisions(),
                output=Path(folder),
                importing=case.options,
            )
            written = convert(case.model, options, on_refusal=lambda _path, _why: None)
            for each in written:
                yield f"convert/{case.name}/{each.path.name}", digest_of(each.path)


def logit_digests() -> Iterator[tuple[str, str]]:
    """Of the logits of every golden checkpoint."""
    for case in golden_cases():
        images, _ = case.expected()
        logits = forward(read_model(case.model, case.options).network, images)
        yield f"logits/{case.name}", hashlib.sha256(np.ascontiguousarray(logits)).hexdigest()


def main() -> int:
    """Stores or compares."""
    command, file = sys.argv[1], Path(sys.argv[2])
    found: dict[str, str] = {}
    for digests in (contract_digests, converted_digests, logit_digests):
        for name, digest in digests():
            found[name] = digest
    if command == "store":
        file.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} digests stored in {file}")
        return 0
    before = json.loads(file.read_text())
    differ = [name for name in before if found.get(name) != before[name]]
    for name in differ:
        print(f"{'differs' if name in found else 'missing'}: {name}")
    print(f"{len(before) - len(differ)} of {len(before)} are the same")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
