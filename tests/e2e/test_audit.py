"""Reading a model does nothing but read it: nothing starts, nothing runs, nothing else is touched.

A process of its own reads every golden file and every malicious model of ``tests/support/audit``
under an audit hook. What this cannot see:

* C and C++ code that raises no audit events: TensorFlow, HDF5, safetensors, ONNX. Files that these
  write are found by listing the whole scratch folder afterwards, and files that they open by
  inotify, but only those that the malicious models are after. A program that they start or a socket
  that they open would be missed.
* What happens while packages are imported, which is before the hook listens.
* Models that ``tests/support/audit/malicious.py`` does not have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.support.audit.malicious import BUILDERS, HARMLESS, WEIGHTS_ALONE, Prey
from tests.support.audit.watch import OpenWatch
from tests.support.fuzz.parsers.folders import _traced
from tests.support.fuzz.parsers.keras_archives import _foreign, _own
from tests.support.golden_cases import GOLDEN, golden_cases

_ROOT = Path(__file__).parents[2]


def _source(name: str, path: Path, **options: Any) -> dict[str, Any]:
    return {"name": name, "path": str(path), "options": options}


def _read(sources: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Reads sources in a process of its own, whose only writable folder is ``folder/output``."""
    output = folder / "output"
    output.mkdir()
    (folder / "sources.json").write_text(json.dumps(sources))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.support.audit.program",
            str(folder / "sources.json"),
            str(output),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=output,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "TMPDIR": str(output)},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(sources)
    return {result["name"]: result for result in results}


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all that lies in a folder, but for where the program may write."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in ("output", "sources.json")
    }


def _made_sources(folder: Path) -> list[dict[str, Any]]:
    """Models that are not among the golden files."""
    sources = []
    for name, content in (("own", _own()[0]), ("foreign", _foreign()[0])):
        path = folder / "good" / name / "model.keras"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        sources.append(_source(name, path))
    traced = folder / "good" / "traced"
    for name, content in _traced()[0].items():
        (traced / name).parent.mkdir(parents=True, exist_ok=True)
        (traced / name).write_bytes(content)
    return [*sources, _source("traced", traced)]


def test_every_kind_of_source_is_read_without_doing_anything_else(tmp_path: Path) -> None:
    sources = []
    for case in golden_cases():
        options = json.loads((case.folder / "case.json").read_text("utf-8"))["options"]
        sources.append(_source(case.name, case.model, **options))
    for path in sorted((GOLDEN / "lift").glob("*.onnx")):
        own = tmp_path / "good" / path.stem
        own.mkdir(parents=True)
        shutil.copy(path, own)
        sources.append(_source(path.stem, own / path.name))
    sources += _made_sources(tmp_path)
    before = _listing(tmp_path)
    for name, result in _read(sources, tmp_path).items():
        assert not result["violations"], name
        assert not result["failed"], (name, result["failed"])
        assert not result["refused"], (name, result["refused"])
    assert _listing(tmp_path) == before
    left = {path.name for path in (tmp_path / "output").iterdir()}
    assert left <= {".ses"}  # which ONNX Runtime writes when it is imported


def test_no_malicious_model_runs_code_writes_or_reads_another_file(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    sources, prey_of = [], {}
    for name, build in BUILDERS.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        prey = prey_of[name] = Prey(vault / f"{name}.canary", vault / f"{name}.secret")
        prey.secret.write_bytes(np.arange(4096, dtype="<f4").tobytes())
        heads = 2 if name in WEIGHTS_ALONE else None
        sources.append(_source(name, build(folder, prey), heads=heads))
        assert not prey.canary.exists(), "building a model must not run it"
    lambda_path = tmp_path / "models" / "lambda" / "model.keras"
    sources.append(_source("trusted", lambda_path, trust=True))
    before = _listing(tmp_path)
    with OpenWatch([prey.secret for prey in prey_of.values()]) as watch:
        results = _read(sources, tmp_path)
        opened = watch.opened()
    # The hook works: it stops code that --trust would let run.
    assert "marshal.loads" in results.pop("trusted")["violations"][0]
    faults = {}
    for name, result in results.items():
        found = result["violations"] + ([result["failed"]] if result["failed"] else [])
        found += ["the canary was written"] if prey_of[name].canary.exists() else []
        found += ["the secret was opened"] if prey_of[name].secret in opened else []
        found += [] if result["refused"] or name in HARMLESS else ["it was accepted"]
        if found:
            faults[name] = found
    assert not faults, json.dumps(faults, indent=1)
    assert _listing(tmp_path) == before


def test_the_watch_sees_what_tensorflow_opens(tmp_path: Path) -> None:
    seen, other = tmp_path / "seen", tmp_path / "other"
    for path in (seen, other):
        path.write_bytes(b"x")
    with OpenWatch([seen, other]) as watch:
        tf.io.read_file(str(seen))
        assert watch.opened() == ({seen} if watch.works else set())
