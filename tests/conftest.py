"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and photos that developers keep beside their checkout."""
    if not _SHARED_DATA.is_dir():
        pytest.skip("needs the real weights and photos in ../shared/data, which are not here")
    return _SHARED_DATA
