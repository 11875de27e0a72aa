"""What a golden case is on disk, and how the makers write one."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CASE_FILE, EXPECTED_FILE = "case.json", "expected.npz"

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@dataclass(frozen=True)
class Size:
    """The sizes of a model to make; the depth stays at two blocks, which every table repeats."""

    dim: int = 16
    depth: int = 2
    heads: int = 2
    mlp_dim: int = 24
    image: int = 16
    patch: int = 4
    classes: int = 5


SMALL = Size()
LARGE = Size(dim=256, depth=6, heads=4, mlp_dim=640, image=96, patch=16, classes=50)


def images_of(size: Size) -> np.ndarray:
    """Three images of raw pixels, uint8 ``(3, image, image, 3)``."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (3, size.image, size.image, 3), np.uint8)


def normalized(images: np.ndarray, preprocessing: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Pixels as the published models take them, float32 ``(N, H, W, 3)``."""
    mean, std = (np.asarray(preprocessing[key], np.float32) for key in ("mean", "std"))
    return ((images / np.float32(255) - mean) / std).astype(np.float32)


def write_case(
    folder: Path,
    write_model: Callable[[Path], None],
    *,
    importer: str,
    model: str,
    images: np.ndarray,
    logits: np.ndarray,
    packages: Sequence[str],
    eps: float,
    preprocessing: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Writes one case afresh.

    Args:
        folder: Where to; what was there is removed.
        write_model: Called with the folder, writes the checkpoint.
        importer: Name of the importer that must recognise it.
        model: Name of the checkpoint within the folder; ``.`` for the folder itself.
        images: Raw pixels, uint8 ``(N, H, W, C)``.
        logits: What the library computed of them, ``(N, classes)``.
        packages: Whose versions to note.
        eps: Epsilon of the model's norms.
        preprocessing: Fields that the imported preprocessing must have.
        options: What the checkpoint does not say.
        labels: Names of the classes that the checkpoint carries.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_model(folder)
    case = {
        "importer": importer,
        "model": model,
        "options": dict(options or {}),
        "eps": eps,
        "preprocessing": dict(preprocessing),
        "labels": list(labels),
        "made_with": {package: importlib.metadata.version(package) for package in packages},
    }
    (folder / CASE_FILE).write_text(json.dumps(case) + "\n", "utf-8")
    np.savez_compressed(folder / EXPECTED_FILE, images=images, logits=logits.astype(np.float32))
