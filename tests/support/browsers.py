"""What tests in a browser need: Chromium, and npm's packages where `make slow` puts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.chromium import CHROMIUM

CLIENTS = Path(os.environ.get("VITEDGE_CLIENTS", Path(__file__).parents[2] / ".clients"))
NPM = CLIENTS / "npm"

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to compute in"),
    pytest.mark.skipif(not NPM.exists(), reason=f"no packages from npm in {NPM}: run make clients"),
]
