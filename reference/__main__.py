"""``python -m reference [FOLDER]``: makes all golden files afresh, by default ``tests/golden``."""

from __future__ import annotations

import sys
from pathlib import Path

from reference import (
    make_google_npz,
    make_hugging_face,
    make_keras_hub,
    make_timm,
    make_torchvision,
    make_vit_keras,
    make_vit_tutorial,
)
from reference.golden import SMALL

MAKERS = (
    make_google_npz,
    make_hugging_face,
    make_keras_hub,
    make_timm,
    make_torchvision,
    make_vit_keras,
    make_vit_tutorial,
)


def main() -> None:
    """Makes every case, and the positions, below the folder."""
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
    for maker in MAKERS:
        print(maker.__doc__, file=sys.stderr)
        maker.make(output, SMALL)
    make_timm.make_positions(output / "positions.npz")


main()
