"""What C code prints, kept where it belongs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import ctypes, sys
from vitedge.terminal.silence import overheard, stdout_on_stderr
with stdout_on_stderr():
    ctypes.CDLL(None).puts(b"a note of a vendor library")
print("result")
"""

LOGS = """
import os
from vitedge.terminal.silence import overheard
os.write(2, b"before\\n")
with overheard() as said:
    os.write(2, b"why it\\nfailed\\n")
os.write(2, b"after\\n")
print(said)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="puts is called through the C library of POSIX")
def test_what_c_prints_on_stdout_is_not_among_the_results() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "result\n"
    assert "a note of a vendor library" in ended.stderr


def test_what_c_logs_into_a_pipe_is_held_back_and_handed_over() -> None:
    ended = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert ended.stdout == "['why it', 'failed']\n"
    assert ended.stderr == "before\nafter\n"


@pytest.mark.parametrize("mode", ["w+", "w"], ids=["readable", "for writing only"])
def test_what_c_logs_into_a_file_is_handed_over_and_stays_where_it_can_be_read(
    mode: str, tmp_path: Path
) -> None:
    with (tmp_path / "log").open(mode) as log:
        ended = subprocess.run(
            [sys.executable, "-c", LOGS], stdout=subprocess.PIPE, stderr=log, text=True, check=True
        )
    assert ended.stdout == "['why it', 'failed']\n"
    kept = "why it\nfailed\n" if mode == "w+" else ""
    assert (tmp_path / "log").read_text() == f"before\n{kept}after\n"
