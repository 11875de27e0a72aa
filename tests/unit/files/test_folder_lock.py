"""A folder that one process at a time writes into, and artefacts that two conversions want."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.models import random_network
from vitedge.artifacts.metadata import read_metadata, sha256_of
from vitedge.errors import ModelError, UsageError
from vitedge.files.folder_lock import only_writer
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

# Waits for a line on stdin while it has the folder.
HOLDING = (
    "import sys; from pathlib import Path; from vitedge.files.folder_lock import only_writer\n"
    "with only_writer(Path(sys.argv[1])): print('has it', flush=True); sys.stdin.readline()"
)


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def test_a_lock_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_that_was_made_for_it_goes(tmp_path: Path) -> None:
    with only_writer(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_gets_a_folder_that_was_removed_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    holder = hold(folder)
    waited = []

    def wait() -> None:
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        waited.append(True)

    with only_writer(folder, wait=True, on_wait=wait):
        assert waited
        assert folder.is_dir()
        with pytest.raises(UsageError, match="another process writes into"), only_writer(folder):
            pass
    holder.communicate()


def test_two_conversions_into_one_folder_take_turns(tmp_path: Path) -> None:
    sources = [tmp_path / name / "model.keras" for name in ("a", "b")]
    for seed, source in enumerate(sources):
        source.parent.mkdir()
        write_keras(random_network(seed), source)
    told: list[str] = []
    options = ConvertOptions((Format.OPENVINO,), (Precision.FP32,), tmp_path / "out")
    refused: list[Exception] = []

    def run(source: Path) -> None:
        try:
            convert(source, options, progress=lambda what, done, total: told.append(what))
        except UsageError as error:
            refused.append(error)

    threads = [threading.Thread(target=run, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(what.startswith("waiting for another process") for what in told)
    # Without --force the second one finds what the first one wrote.
    assert len(refused) == 1
    assert "exists; give --force" in str(refused[0])
    metadata = read_metadata(tmp_path / "out" / "model.fp32.xml")
    assert metadata is not None
    assert metadata.source.sha256 in map(sha256_of, sources)


def test_a_failed_conversion_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        convert(tmp_path / "model.keras", ConvertOptions(output=tmp_path / "new" / "out"))
    assert [each.name for each in tmp_path.iterdir()] == ["model.keras"]
