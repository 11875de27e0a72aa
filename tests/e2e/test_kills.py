"""Commands that are killed at random moments leave whole files or none, and can go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.kills import COMMANDS

# What is killed starts again, which takes most of its time: with TensorFlow, most of all.
# `python -m tests.support.kills 50` kills more often.
KILLS = {"train": 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_wrong(name: str, tmp_path: Path) -> None:
    kills = KILLS.get(name, 3)
    found = COMMANDS[name](tmp_path, kills, np.random.default_rng(0))
    assert found.kills == kills
    assert found.faults == []
