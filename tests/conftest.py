"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# There is a test process for each core. More threads in each wait for one another, which takes an
# eighth of the processor's time.
for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ.setdefault(_threads, "1")

# What somebody's own npm has fetched is no part of a test; those of browsers name their own.
os.environ["VITEDGE_NPM"] = os.devnull

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time: a change is judged by its own faults. New ones are drawn by
# `pytest --hypothesis-profile=default`.
hypothesis.settings.register_profile("the same examples", derandomize=True)
hypothesis.settings.load_profile("the same examples")

_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and photos that developers keep beside their checkout."""
    if not _SHARED_DATA.is_dir():
        pytest.skip("needs the real weights and photos in ../shared/data, which are not here")
    return _SHARED_DATA
