"""vit-keras, of both generations of Keras.

The last version for Keras 2 is run in a process of its own, from a folder of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import astuple
from pathlib import Path

import keras
import numpy as np
import tf_keras
from vit_keras.vit import build_model

from reference.golden import HALVES, Size, images_of, normalized, write_case
from reference.keras_models import forget_path, randomize, restart_numbering

_KERAS2_VERSION = "vit-keras==0.1.2"


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    for name, file, representation in (
        ("weights_h5", "vit.weights.h5", None),
        ("h5", "vit.h5", size.dim),
        ("keras", "vit.keras", size.dim),
    ):
        make_case(output / f"vit_keras_{name}", size, file, representation, build_model, "keras")
    _make_keras2(output, size)


def make_case(
    folder: Path, size: Size, file: str, representation: int | None, build: object, library: str
) -> None:
    """Writes one case with the ``build_model`` of either version."""
    restart_numbering(keras if library == "keras" else tf_keras)
    model = build(  # type: ignore[operator]
        image_size=(size.image, size.image) if library == "keras" else size.image,
        patch_size=size.patch,
        num_layers=size.depth,
        hidden_size=size.dim,
        num_heads=size.heads,
        name="vit",
        mlp_dim=size.mlp_dim,
        classes=size.classes,
        representation_size=representation,
    )
    randomize(model)
    for layer in model.layers:
        if type(layer).__name__ == "Lambda":
            forget_path(layer, "vit_keras/vit.py")
    images = images_of(size)
    weights_only = "weights" in file

    def write(target: Path) -> None:
        save = model.save_weights if weights_only else model.save
        save(str(target / file))

    write_case(
        folder,
        write,
        importer="vit-keras",
        model=file,
        images=images,
        logits=np.asarray(model(normalized(images, HALVES))),
        packages=(library, "tensorflow"),
        eps=1e-6,
        preprocessing={**HALVES, "resize": None},
        options={"heads": size.heads} if weights_only else {},
    )


def _make_keras2(output: Path, size: Size) -> None:
    with tempfile.TemporaryDirectory() as folder:
        install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
        subprocess.run((*install, "--target", folder, _KERAS2_VERSION), check=True)
        paths = (folder, str(Path(__file__).parents[1]))
        environment = os.environ | {
            "TF_USE_LEGACY_KERAS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        sizes = [str(value) for value in astuple(size)]
        command = (sys.executable, "-m", "reference.vit_keras_of_keras2", str(output), *sizes)
        subprocess.run(command, check=True, env=environment)
