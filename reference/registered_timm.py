"""``python -m reference.registered_timm``: reads timm's registered transformers over patches.

Each is made with random weights at 16 channels and two blocks, written, read by its architecture
and, where that is possible, without it; what its logits differ by is printed, a line each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import timm
from safetensors.torch import save_file

from reference.golden import SMALL, images_of, normalized
from reference.torch_models import logits_of, randomize
from tests.support.golden_cases import TOLERANCE
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward

_MODULES = ("vision_transformer", "deit", "eva", "beit")
_STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def main() -> None:
    """Tries all, or those whose names hold a word; exits with 1 where one is misread."""
    words = sys.argv[1:]
    misread = 0
    for module in _MODULES:
        for name in timm.list_models(module=module):
            if not words or any(word in name for word in words):
                said = tried(name)
                misread += said.startswith("MISREAD")
                print(f"{name:48} {said}", flush=True)
    sys.exit(misread > 0)


def tried(architecture: str) -> str:
    """What came of one architecture, in words."""
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    try:
        model = timm.create_model(architecture, num_classes=5, **size)
    except (AssertionError, TypeError, ValueError) as error:
        return f"not made: {error}"
    randomize(model)
    images = images_of(SMALL)
    expected = logits_of(model, normalized(images, _STATISTICS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({key: each.contiguous() for key, each in model.state_dict().items()}, path)
        options: dict[str, Any] = {"heads": 2, "image_size": (16, 16), **_STATISTICS}
        told = _read(path, images, expected, architecture=architecture, **options)
        return f"{told}; untold {_read(path, images, expected, **options)}"


def _read(path: Path, images: np.ndarray, expected: np.ndarray, **options: Any) -> str:
    try:
        network = read_model(path, ImportOptions(**options)).network
    except ModelError as error:
        return f"refused: {str(error).replace(str(path), 'it')}"
    found = float(np.abs(forward(network, images) - expected).max() / np.ptp(expected))
    return f"{found:.1e}" if found <= TOLERANCE else f"MISREAD by {found:.1e}"


if __name__ == "__main__":
    main()
