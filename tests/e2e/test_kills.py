"""Commands that are killed at random moments leave whole files or none, and can go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.kills import COMMANDS

# A killed training starts TensorFlow again, which takes most of its time.
KILLS = {"train": 2, "bench": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_wrong(name: str, tmp_path: Path) -> None:
    kills = KILLS.get(name, 5)
    found = COMMANDS[name](tmp_path, kills, np.random.default_rng(0))
    assert found.kills == kills
    assert found.faults == []
