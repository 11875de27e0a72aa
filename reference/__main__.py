"""``python -m reference [FOLDER]``: makes all golden files anew, by default ``tests/golden``.

Each is imported at once, and compared; what says the same as before is left as it was.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from reference import (
    lift_keras_2,
    lift_networks,
    lift_onnx,
    make_hugging_face_sizes,
    make_pixels,
    make_text_towers,
    make_timm,
)
from reference.golden import SMALL
from reference.makers import MAKERS
from reference.renewal import renew
from tests.support.golden_cases import assert_imported, golden_cases


def main() -> None:
    """Makes every case and the other golden files, and says what has changed."""
    golden = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
    with tempfile.TemporaryDirectory() as name:
        fresh, lifts = Path(name) / "golden", Path(name) / "lift"
        fresh.mkdir()
        for maker in MAKERS:
            print(maker.__doc__, file=sys.stderr)
            maker.make(fresh, SMALL)
        differences = [assert_imported(case) for case in golden_cases(fresh)]
        print(f"{len(differences)} checkpoints imported, logits within {max(differences):.1e}")
        make_timm.make_positions(fresh / "positions.npz")
        make_hugging_face_sizes.make(fresh, fresh / "hugging_face_sizes.npz")
        make_pixels.make(fresh / "pixels.npz")
        lift_onnx.main(lifts)
        lift_keras_2.main(lifts)
        networks = Path(name) / "networks"
        lift_networks.main(networks)
        towers = Path(name) / "text_towers"
        make_text_towers.main(towers)
        made = [*fresh.iterdir(), *lifts.iterdir(), *networks.iterdir(), *towers.iterdir()]
        renewed = renew(fresh, golden) + renew(lifts, golden / "lift")
        renewed += renew(networks, golden / "lift_networks")
        renewed += renew(towers, golden / "text_towers")
    print(f"{len(made)} golden files and folders made, of which {len(renewed)} say something new")
    for changed in renewed:
        print(f"  {changed}")


if __name__ == "__main__":
    main()
