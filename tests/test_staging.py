"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitedge.errors import UsageError, VitedgeError
from vitedge.staging import publish, refuse_existing, staging, write_whole

# A number that no process has: the kernel's largest is 2^22.
DEAD_PROCESS = 2**22 + 1


def test_what_is_staged_appears_when_published(tmp_path: Path) -> None:
    with staging(tmp_path / "new") as folder:
        (folder / "a").write_text("whole")
        assert not (tmp_path / "new" / "a").exists()
        publish([folder / "a"], tmp_path / "new")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["a"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staging(tmp_path) as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".vitedge-{DEAD_PROCESS}").mkdir()
    with staging(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_is_making_stays(tmp_path: Path) -> None:
    other = tmp_path / f".vitedge-{os.getppid()}"
    other.mkdir()
    with staging(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [other]


def test_existing_files_need_force(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UsageError, match="--force"):
        refuse_existing([tmp_path / "a"], force=False)
    refuse_existing([tmp_path / "a", tmp_path / "b"], force=True)


def test_a_folder_in_the_way_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        refuse_existing([tmp_path], force=True)


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VitedgeError, match="cannot write into") as caught:
        write_whole(tmp_path / "file" / "report.json", "{}")
    assert "\n" not in str(caught.value)


def test_a_disk_that_refuses_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    # A limit on the size of files fails writes as a full disk does, half-way through.
    (tmp_path / "report.json").write_text("old")
    program = (
        "import resource, sys; from pathlib import Path; from vitedge.staging import write_whole\n"
        "from vitedge.errors import VitedgeError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(Path(sys.argv[1]), 'x' * 5000)\n"
        "except VitedgeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "report.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"cannot write into '{tmp_path}': File too large"
    assert (tmp_path / "report.json").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
