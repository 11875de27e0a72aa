"""A full disk, limits on files and too little memory are one line each, and no crash."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import random_network
from vitedge.bench import builtin
from vitedge.errors import VitedgeError, load_remedy, missing_package
from vitedge.files.temporary import demand_room, machine_fault, temporary_folder
from vitedge.pipeline.keras_model import write_keras

ONNX = next(path for path in builtin.artifacts() if path.suffix == ".onnx")
DATA = Path(builtin.__file__).parent / "digits.npz"


def vitedge(*arguments: str | Path, limit: int, kind: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitedge", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
    )


def test_a_model_that_is_larger_than_files_may_be_is_one_line_and_no_crash(tmp_path: Path) -> None:
    # HDF5 writes model.weights.h5, and ends the process when it cannot.
    write_keras(random_network(), tmp_path / "model.keras")
    (tmp_path / "out").mkdir()
    arguments = ("import", tmp_path / "model.keras", "-o", tmp_path / "out" / "copy.keras")
    done = vitedge(*arguments, limit=20_000, kind=resource.RLIMIT_FSIZE)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].endswith("File too large")
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bench_whose_temporary_files_do_not_fit_is_one_line(tmp_path: Path) -> None:
    done = vitedge("bench", ONNX, "--data", DATA, limit=4096, kind=resource.RLIMIT_FSIZE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: a file is larger than files may be here")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"no room left .*set TMPDIR"),
        (errno.EDQUOT, r"no room left .*set TMPDIR"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOMEM, "ulimit -v"),
        (errno.EROFS, "cannot be read or written"),
    ],
)
def test_a_fault_of_the_machine_names_the_way_out(number: int, words: str) -> None:
    with pytest.raises(VitedgeError, match=words), temporary_folder():
        raise OSError(number, os.strerror(number), "some/file")


def test_a_fault_of_a_file_is_none_of_the_machine() -> None:
    assert machine_fault(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    with pytest.raises(FileNotFoundError), temporary_folder():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")


def test_room_is_demanded_of_the_disk_itself(tmp_path: Path) -> None:
    demand_room(tmp_path, [1000, 1000])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"too large|No space|Invalid"):
        demand_room(tmp_path, [1 << 60])


def test_a_package_that_is_there_but_cannot_be_loaded_is_not_called_missing() -> None:
    try:
        import a_package_that_nobody_has  # noqa: F401
    except ImportError:
        assert "'it' is not installed. Run: pip install" in str(missing_package("it", "extra"))
    try:
        raise ImportError("libit.so: failed to map segment from shared object")
    except ImportError:
        told = str(missing_package("it", "extra"))
    assert "is installed but cannot be loaded: libit.so: failed to map" in told
    assert "Free memory, or raise the limit on it (ulimit -v)" in told
    assert "pip" not in told
    assert load_remedy("no such symbol", "Run: this") == "Run: this"
