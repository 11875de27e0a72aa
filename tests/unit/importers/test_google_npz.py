"""What Google's original checkpoints say, and what is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.plain import plain
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.kinds import Activation

VIT = GOLDEN / "google_npz" / "vit.npz"


class MakesFolder:
    """Unpickles as a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def arrays() -> dict[str, np.ndarray]:
    with np.load(VIT) as file:
        return dict(file)


def test_heads_and_activation_are_those_of_the_original_code() -> None:
    config = plain(read_model(VIT).network)
    assert (config.heads, config.head_dim) == (2, 8)
    assert config.activation is Activation.GELU_TANH
    exact = plain(read_model(VIT, ImportOptions(activation=Activation.GELU)).network)
    assert exact.activation is Activation.GELU


def test_a_hybrid_with_a_convolutional_root_is_no_vit(tmp_path: Path) -> None:
    path = tmp_path / "hybrid.npz"
    np.savez(path, **arrays(), **{"conv_root/kernel": np.ones((7, 7, 3, 8), np.float32)})
    with pytest.raises(ModelError, match="no place in a ViT of its kind: conv_root/kernel"):
        read_model(path)


def test_the_moments_of_an_optimizer_stay_unread(tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    state = {f"opt/target/{name}": array for name, array in arrays().items()}
    moments = {f"opt/state/{name}": np.full_like(array, 7) for name, array in arrays().items()}
    np.savez(path, **state, **moments)
    found, expected = read_model(path).network, read_model(VIT).network
    for (name, one), (_, other) in zip(found.named_arrays(), expected.named_arrays(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_an_array_of_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.npz", tmp_path / "executed"
    with zipfile.ZipFile(path, "w") as archive, zipfile.ZipFile(VIT) as original:
        for name in original.namelist():
            if name != "cls.npy":
                archive.writestr(name, original.read(name))
        with archive.open("cls.npy", "w") as stream:
            header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
            np.lib.format.write_array_header_1_0(stream, header)
            pickle.dump(MakesFolder(marker), stream)
    with pytest.raises(ModelError, match="holds object, not numbers"):
        read_model(path)
    assert not marker.exists()
