"""HDF5 files that keep data elsewhere, or claim what they lack, are refused before reading."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.golden_cases import GOLDEN
from vitedge.cli import main
from vitedge.errors import ModelError
from vitedge.files.hdf5_storage import refuse_elsewhere
from vitedge.importers import ImportOptions, read_model


def external_storage(file: h5py.File, name: str, secret: Path) -> None:
    shape = file[name].shape
    del file[name]
    size = int(np.prod(shape)) * 4
    file.create_dataset(name, shape, "<f4", external=[(str(secret / "raw"), 0, size)])


def virtual(file: h5py.File, name: str, secret: Path) -> None:
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret / "other.h5"), "x", shape)
    file.create_virtual_dataset(name, layout)


def external_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(secret / "other.h5"), "/x")


def external_group(file: h5py.File, name: str, secret: Path) -> None:
    """Beside the weights, where an attribute could name it."""
    file["more"] = h5py.ExternalLink(str(secret / "other.h5"), "/")


def soft_link(file: h5py.File, name: str, secret: Path) -> None:
    file["more"] = h5py.SoftLink(f"/{name}")


def named_type(file: h5py.File, name: str, secret: Path) -> None:
    file["more"] = np.dtype("f4")


def never_written(file: h5py.File, name: str, secret: Path) -> None:
    file.create_dataset("more", (10**12,), "f4")


def huge_chunk(file: h5py.File, name: str, secret: Path) -> None:
    file.create_dataset("more", (4,), "f4", chunks=(1 << 29,), maxshape=(None,))


ATTACKS = {
    external_storage: "lies in another file",
    virtual: "is a virtual dataset",
    external_link: "is a link into another file",
    external_group: "is a link into another file",
    soft_link: "is a symbolic link",
    named_type: "is a named type",
    never_written: "claims 4,000,000,000,000 bytes and holds 0",
    huge_chunk: "--max-source-size",
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """What no model may bring along: as raw bytes, and as another model's dataset."""
    folder = tmp_path / "secret"
    folder.mkdir()
    np.full(4096, 1234.0, "<f4").tofile(folder / "raw")
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.full(16, 1234.0, "f4")
    return folder


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_weights_that_lie_elsewhere_are_refused_by_name(
    attack: Callable[[h5py.File, str, Path], None], secret: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes((GOLDEN / "vit_keras2_weights" / "weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
        attack(file, next(name for name in names if name.endswith("bias:0")), secret)
    with pytest.raises(ModelError, match=ATTACKS[attack]):
        refuse_elsewhere(path)
    options = ["--heads", "2", "-o", str(tmp_path / "out.keras")]
    result = CliRunner().invoke(main, ["import", *options, str(path)])
    assert result.exit_code == 1
    assert ATTACKS[attack] in result.output.replace("\n", " ")
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_weights_in_an_archive_lie_nowhere_else_either(
    attack: Callable[[h5py.File, str, Path], None], secret: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(GOLDEN / "keras_hub_vit" / "model.keras") as old:
        weights = io.BytesIO(old.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            attack(file, "layers/dense/vars/1", secret)
        with zipfile.ZipFile(path, "w") as new:
            new.writestr("config.json", old.read("config.json"))
            new.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(ModelError, match=ATTACKS[attack]):
        read_model(path, ImportOptions())


def test_a_file_that_contains_itself_is_walked_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "loop.h5", "w") as file:
        file.create_group("group")["root"] = file["/"]
        file["none"] = h5py.Empty("f4")
        file["text"] = "a"
        file.create_dataset("packed", data=np.zeros(100_000), compression="gzip", shuffle=True)
    refuse_elsewhere(tmp_path / "loop.h5")


def test_a_filter_of_a_library_of_its_own_is_not_loaded(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "filter.h5", "w") as file:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((4,))
        settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, settings)
    with pytest.raises(ModelError, match="needs the HDF5 filter 32015"):
        refuse_elsewhere(tmp_path / "filter.h5")
