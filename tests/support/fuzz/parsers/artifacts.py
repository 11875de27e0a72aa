"""Artefacts: what ``inspect`` tells of them, and engines that load them."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from random import Random

import numpy as np

import vitedge
from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.mutate.tflite import mutate_tflite
from tests.support.fuzz.mutate.xml import mutate_xml
from tests.support.fuzz.parser import Make, Mutate, Parser
from tests.support.fuzz.parsers.onnx_sources import mutate_onnx
from vitedge.artifacts.metadata import METADATA_KEY
from vitedge.inspection.description import inspect
from vitedge.report.shown import print_shown
from vitedge.targets.formats import Format, all_formats

_BUILTIN = Path(vitedge.__file__).parent / "bench" / "builtin"
_MUTATE: dict[Format, Mutate] = {
    Format.TFLITE: mutate_tflite,
    Format.ONNX: mutate_onnx,
    Format.OPENVINO: mutate_xml,
}


def _inspect(path: Path) -> None:
    found = inspect(path)
    with redirect_stdout(io.StringIO()):
        print_shown(found)
    json.dumps(found.to_dict(), default=str)


def _classify(path: Path) -> None:
    with vitedge.load(path, threads=1) as model:
        model.classify(np.zeros((16, 16, 3), np.uint8))


def _make(target: Format, *, metadata_share: float) -> Make:
    seed = (_BUILTIN / f"digits.int8{target.suffix}").read_bytes()
    weights = (_BUILTIN / "digits.int8.bin").read_bytes()

    def make(rng: Random, folder: Path) -> Path:
        path = folder / f"model{target.suffix}"
        of_metadata = rng.random() < metadata_share
        mutate = _METADATA[target] if of_metadata else _MUTATE[target]
        damaged = mutate(seed, rng)
        if target is Format.OPENVINO:
            beside = weights
            if rng.random() < 0.2:
                beside, damaged = mutate_bytes(weights, rng), rng.choice((seed, damaged))
            path.with_suffix(".bin").write_bytes(beside)
        path.write_bytes(damaged)
        return path

    return make


def _tflite_metadata(data: bytes, rng: Random) -> bytes:
    """Keeps the length, so that all else is where it was."""
    start = data.index(b'{"schema"')
    _, length = json.JSONDecoder().raw_decode(data[start : start + 20_000].decode("latin1"))
    changed = mutate_json(data[start : start + length], rng)[:length].ljust(length)
    return data[:start] + changed + data[start + length :]


def _onnx_metadata(data: bytes, rng: Random) -> bytes:
    import onnx

    model = onnx.load_from_string(data)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = mutate_json(entry.value.encode(), rng).decode("utf-8", "replace")
    return model.SerializeToString()


def _openvino_metadata(data: bytes, rng: Random) -> bytes:
    text = data.decode()
    found = re.search(rf'<{METADATA_KEY} value="([^"]*)"', text)
    assert found is not None
    changed = mutate_json(html.unescape(found[1]).encode(), rng).decode("utf-8", "replace")
    return (text[: found.start(1)] + html.escape(changed) + text[found.end(1) :]).encode()


_METADATA: dict[Format, Callable[[bytes, Random], bytes]] = {
    Format.TFLITE: _tflite_metadata,
    Format.ONNX: _onnx_metadata,
    Format.OPENVINO: _openvino_metadata,
}

PARSERS = (
    *(
        Parser(f"inspect-{each}", _make(each, metadata_share=0.2), _inspect)
        for each in all_formats()
    ),
    *(
        Parser(f"metadata-{each}", _make(each, metadata_share=1.0), _inspect)
        for each in all_formats()
    ),
    *(
        Parser(f"engine-{each}", _make(each, metadata_share=0.05), _classify, loads_engine=True)
        for each in all_formats()
    ),
)
