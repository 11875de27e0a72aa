"""``python -m reference [FOLDER]``: makes all golden files afresh, by default ``tests/golden``."""

from __future__ import annotations

import sys
from pathlib import Path

from reference import make_timm
from reference.golden import SMALL
from reference.makers import MAKERS


def main() -> None:
    """Makes every case, and the positions, below the folder."""
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
    for maker in MAKERS:
        print(maker.__doc__, file=sys.stderr)
        maker.make(output, SMALL)
    make_timm.make_positions(output / "positions.npz")


if __name__ == "__main__":
    main()
