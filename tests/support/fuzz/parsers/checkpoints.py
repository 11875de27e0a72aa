"""Checkpoints that are one file."""

from __future__ import annotations

import pickle
from random import Random

from tests.support.fuzz.mutate.archive import mutate_archive
from tests.support.fuzz.mutate.hdf5 import mutate_hdf5
from tests.support.fuzz.mutate.npy import mutate_npy_member
from tests.support.fuzz.mutate.pickles import mutate_pickle
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.mutate.safetensors import mutate_safetensors
from tests.support.fuzz.parser import KERAS, Parser, from_files, golden
from tests.support.fuzz.parsers.reading import read_checkpoint, read_source


def _torch_member(name: str, content: bytes, rng: Random) -> bytes:
    return mutate_pickle(content, rng) if name.endswith(".pkl") else mutate_bytes(content, rng)


def _mutate_torch(data: bytes, rng: Random) -> bytes:
    return mutate_archive(data, rng, _torch_member)


def _mutate_npz(data: bytes, rng: Random) -> bytes:
    return mutate_archive(data, rng, mutate_npy_member)


def _legacy_torch() -> list[bytes]:
    """What torch wrote before 1.6: pickles in a row, which vitedge refuses to read."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"w": [1.0, 2.0]}, ["0"])
    return [b"".join(pickle.dumps(part, 2) for part in parts), pickle.dumps({"w": [1.0]}, 4)]


PARSERS = (
    Parser(
        "safetensors",
        from_files(
            "model.safetensors",
            lambda: golden("timm_*/*.safetensors", "torchvision_*/*.safetensors"),
            mutate_safetensors,
        ),
        read_checkpoint,
    ),
    Parser(
        "torch",
        from_files("model.pth", lambda: golden("*/*.pth", "*/*.pth.tar"), _mutate_torch),
        read_checkpoint,
    ),
    Parser(
        "torch-legacy",
        from_files("model.pth", _legacy_torch, mutate_pickle),
        read_checkpoint,
    ),
    Parser(
        "npz",
        from_files("vit.npz", lambda: golden("google_npz*/vit.npz"), _mutate_npz),
        read_checkpoint,
    ),
    Parser(
        "hdf5-weights",
        from_files(
            "vit.weights.h5",
            lambda: golden("*/*.weights.h5", "vit_keras2_weights/weights.h5"),
            mutate_hdf5,
        ),
        read_checkpoint,
    ),
    Parser(
        "hdf5-model",
        from_files(
            "vit.h5",
            lambda: golden("*_whole/vit.h5", "*_h5/vit.h5", "lift/keras_2.h5"),
            mutate_hdf5,
        ),
        read_source,
        KERAS,
    ),
)
