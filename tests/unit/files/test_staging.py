"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vitedge.errors import UsageError, VitedgeError
from vitedge.files.staging import publish, refuse_existing, staging, write_whole

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
        "import resource, sys; from pathlib import Path\n"
        "from vitedge.files.staging import write_whole\n"
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


def test_a_link_is_kept_and_its_target_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "hop").symlink_to("real")
    (tmp_path / "link").symlink_to(tmp_path / "hop")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    with staging(tmp_path) as folder:
        (folder / "hop").write_text("published")
        publish([folder / "hop"], tmp_path)
    assert (tmp_path / "hop").is_symlink()
    assert (tmp_path / "real").read_text() == "published"


def test_a_link_to_nothing_needs_force_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("absent")
    with pytest.raises(UsageError, match="link to nothing; give --force"):
        refuse_existing([tmp_path / "link"], force=False)
    refuse_existing([tmp_path / "link"], force=True)
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "absent").read_text() == "new"


def test_links_that_go_round_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for action in (
        lambda: refuse_existing([tmp_path / "a"], force=True),
        lambda: write_whole(tmp_path / "a", "x"),
    ):
        with pytest.raises(VitedgeError, match="cannot write into"):
            action()


def test_a_link_to_another_file_system_is_followed(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with TemporaryDirectory(dir=other) as far:
        (tmp_path / "link").symlink_to(Path(far) / "real")
        with staging(tmp_path) as folder:
            (folder / "link").write_text("new")
            publish([folder / "link"], tmp_path)
        assert (tmp_path / "link").is_symlink()
        assert [each.name for each in Path(far).iterdir()] == ["real"]
        assert (Path(far) / "real").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refuse_existing([pipe], force=False, streams=True)
    with (tmp_path / "got").open("w") as got:
        reader = subprocess.Popen(["cat", pipe], stdout=got)
        write_whole(pipe, "{}\n" * 100_000)  # more than the pipe holds
        reader.wait()
    assert (tmp_path / "got").read_text() == "{}\n" * 100_000
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_whole(link, "{}")
    assert stat.S_ISCHR(link.stat().st_mode)
    if os.geteuid() == 0:
        full = tmp_path / "full"
        try:
            os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
            full.open("wb").close()
        except OSError:
            return  # a container may not make, or not open, devices
        with pytest.raises(VitedgeError, match="No space left"):
            write_whole(full, "{}")
        assert stat.S_ISCHR(full.stat().st_mode)


def test_an_artefact_is_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="a device, a pipe or a socket; name a file"):
        refuse_existing([tmp_path / "model.onnx"], force=True)


@pytest.mark.parametrize("is_piped", [False, True], ids=["to a file", "to a pipe"])
def test_stdout_by_name_gets_what_is_printed_in_its_order(tmp_path: Path, is_piped: bool) -> None:
    program = (
        "from pathlib import Path; from vitedge.files.staging import *\n"
        "refuse_existing([Path('/dev/stdout')], force=False, streams=True)\n"
        "print('before'); write_whole(Path('/dev/stdout'), '{}\\n'); print('after')\n"
    )
    with (tmp_path / "out").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE if is_piped else file,
            text=True,
            check=True,
        )
    got = done.stdout if is_piped else (tmp_path / "out").read_text()
    assert got == "before\n{}\nafter\n"


def test_a_folder_that_was_made_goes_when_nothing_was_put_into_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "mine"):
        raise ZeroDivisionError
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
