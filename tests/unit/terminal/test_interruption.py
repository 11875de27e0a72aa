"""Ctrl-C while an engine computes, and a second one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import hashlib, sys, time
from vitedge.terminal.interruption import ending_soon

class Slow:
    def __del__(self):
        print("cleaned up", flush=True)

def busy():  # like an engine's step: one call that Python's own handlers wait for
    print("started", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def idle():
    held = Slow()
    print("started", flush=True)
    time.sleep(60)

with ending_soon(lambda: print("kept: all", file=sys.stderr), grace_seconds=0.5):
    {"busy": busy, "idle": idle}[sys.argv[1]]()
"""


def started(how: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("how", ["busy", "idle"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_ends_the_process_soon_and_says_what_is_kept_once(how: str, times: int):
    process = started(how)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)  # by itself the computation takes many minutes
    assert process.returncode == 130
    assert errors == "kept: all\n"
