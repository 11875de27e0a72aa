"""``.keras`` files: vitedge's own, those of libraries, and what has to be lifted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.support.fuzz.mutate.archive import mutate_archive
from tests.support.fuzz.mutate.hdf5 import mutate_hdf5
from tests.support.fuzz.mutate.json_text import mutate_json
from tests.support.fuzz.parser import KERAS, Parser, from_files, golden
from tests.support.fuzz.parsers.reading import read_source


def _member(name: str, content: bytes, rng: Random) -> bytes:
    return mutate_json(content, rng) if name.endswith(".json") else mutate_hdf5(content, rng)


def _mutate(data: bytes, rng: Random) -> bytes:
    return mutate_archive(data, rng, _member)


def _saved(build: Callable[[], object]) -> list[bytes]:
    from vitedge.files.keras_archives import save_packed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save_packed(build(), path)
        return [path.read_bytes()]


def _own() -> list[bytes]:
    from tests.support.models import random_network
    from vitedge.in_keras.model import to_keras

    return _saved(lambda: to_keras(random_network(depth=1)))


def _foreign() -> list[bytes]:
    return _saved(_build_foreign)


def _build_foreign() -> object:
    """Attention and convolution in a functional model that no importer knows by its names."""
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(8, 4, 4)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Reshape((16, 8))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.LayerNormalization()(x)
    x = layers.Activation("gelu")(layers.Dense(8)(x))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


PARSERS = (
    Parser("keras-own", from_files("model.keras", _own, _mutate), read_source, KERAS),
    Parser(
        "keras-by-name",
        from_files("model.keras", lambda: golden("*/*.keras"), _mutate),
        read_source,
        KERAS,
    ),
    Parser("keras-lifted", from_files("model.keras", _foreign, _mutate), read_source, KERAS),
)
