"""The classic tutorial ViT, saved in every way that either generation of Keras offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tf_keras

from reference.golden import Size, images_of, normalized, write_case
from reference.keras_models import forget_path, randomize, restart_numbering
from reference.tutorial_model import tutorial_model

_UNIT = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    ways: Mapping[str, tuple[Any, str, Callable[[Any, Path], None]]] = {
        "h5": (tf_keras, "vit.h5", lambda model, path: model.save_weights(path)),
        "saved_model": (tf_keras, "saved", _save_model),
        "weights_h5": (keras, "vit.weights.h5", lambda model, path: model.save_weights(path)),
        "keras": (tf_keras, "vit.keras", lambda model, path: model.save(path)),
    }
    for name, (library, file, save) in ways.items():
        _make(output / f"vit_tutorial_{name}", library, size, file, save)


def _save_model(model: Any, path: Path) -> None:
    # Without the traced functions, which are ten times as large as the weights and go unread.
    model.save(path, save_format="tf", save_traces=False)


def _make(
    folder: Path, library: Any, size: Size, file: str, save: Callable[[Any, Path], None]
) -> None:
    images = images_of(size)
    pixels = normalized(images, _UNIT)
    restart_numbering(library)
    model = tutorial_model(library, size, len(images))
    forget_path(model.extractClassToken, "ViT/model.py")
    model(pixels)
    randomize(model)
    write_case(
        folder,
        lambda target: save(model, target / file),
        importer="vit-tutorial",
        model=file,
        images=images,
        logits=np.asarray(model(pixels)),
        packages=("keras" if library is keras else "tf-keras", "tensorflow"),
        eps=1e-6,
        preprocessing={**_UNIT, "resize": None},
        options={} if file.endswith(".keras") else {"heads": size.heads},
    )
