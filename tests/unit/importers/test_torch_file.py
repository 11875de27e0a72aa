"""Torch's checkpoints are read without running anything that they name."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitedge.errors import ModelError
from vitedge.importers import read_model
from vitedge.importers.reading.torch_file import open_torch, torch_names


class Pickled:
    """Pickles as a call of any function; the way in of malicious checkpoints."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def checkpoint(path: Path, content: bytes, arrays: dict[str, bytes] | None = None) -> Path:
    """A zip of torch's layout around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, data in (arrays or {}).items():
            archive.writestr(f"archive/data/{name}", data)
    return path


def tensor_pickle(
    shape: str, strides: str, offset: int = 0, storage: str = "FloatStorage"
) -> bytes:
    """``{"a": tensor}`` in protocol 0, with a tensor of two stored numbers."""
    return (
        "(S'a'\nctorch._utils\n_rebuild_tensor_v2\n("
        f"(S'storage'\nctorch\n{storage}\nS'0'\nS'cpu'\nI2\ntQ"
        f"I{offset}\n{shape}{strides}I00\nNtRd."
    ).encode()


def read(path: Path) -> np.ndarray:
    with open_torch(path) as tensors:
        return tensors["a"]


def test_a_tensor_is_read_with_its_strides(tmp_path: Path) -> None:
    data = np.array([1.5, -2.0], "<f4").tobytes()
    path = checkpoint(tmp_path / "a.pth", tensor_pickle("(I2\nI1\nt", "(I1\nI2\nt"), {"0": data})
    assert torch_names(path) == {"a"}
    np.testing.assert_array_equal(read(path), [[1.5], [-2.0]])


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    data = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    content = tensor_pickle("(I2\nt", "(I1\nt", storage="BFloat16Storage")
    path = checkpoint(tmp_path / "a.pth", content, {"0": data})
    np.testing.assert_array_equal(read(path), [1.5, -2.0])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ("(I3\nt", "(I1\nt", 0),
        ("(I2\nt", "(I1\nt", 1),
        ("(I2\nt", "(I7\nt", 0),
        ("(I2\nt", "(I-1\nt", 0),
        ("(I-2\nt", "(I1\nt", 0),
        ("(I1000000000000\nt", "(I0\nt", 0),
    ],
    ids=["longer", "offset", "stride", "negative stride", "negative length", "stride zero"],
)
def test_a_tensor_outside_its_storage_is_an_error(
    shape: str, strides: str, offset: int, tmp_path: Path
) -> None:
    content = tensor_pickle(shape, strides, offset)
    path = checkpoint(tmp_path / "a.pth", content, {"0": bytes(8)})
    with pytest.raises(ModelError, match="truncated or not a file of torch"):
        read(path)


def test_a_function_that_the_pickle_names_is_refused_by_name_and_not_called(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    content = pickle.dumps({"a": Pickled(os.mkdir, str(marker))})
    path = checkpoint(tmp_path / "evil.pth", content)
    assert torch_names(path) == frozenset()
    with pytest.raises(ModelError, match=f"holds '{os.mkdir.__module__}.mkdir' in place of"):
        read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"(ibuiltins\neval\n.",
        b"ctorch\nload\n.",
        b"ctorch.storage\n_load_from_bytes\n.",
        b"cargparse\nNamespace\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n.",
        b"ccollections\nnamedtuple\n.",
        b"ctorch._utils\n_rebuild_tensor_v2.__class__\n.",
    ],
    ids=repr,
)
def test_every_global_but_those_of_tensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "evil.pth", content)
    with pytest.raises(ModelError, match="in place of tensors"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(dS'x'\nI1\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N(dS'__code__'\nI1\nstb.",
        b"ccollections\nOrderedDict\n(dS'x'\nI1\nsb.",
        b"ctorch\nFloatStorage\n(dS'dtype'\nS'O'\nsb.",
        b"ctorch\nFloatStorage\n)R.",
    ],
    ids=["function", "slots", "class", "storage", "call of a storage"],
)
def test_what_the_pickle_is_given_cannot_be_changed(content: bytes, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "evil.pth", content)
    with pytest.raises(ModelError, match="truncated or not a file of torch"):
        read(path)


def test_a_bare_pickle_is_not_read_at_all(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(Pickled(os.mkdir, str(marker))))
    assert torch_names(path) == frozenset()
    with pytest.raises(ModelError, match=r"not a file of torch 1\.6 or later"):
        read(path)
    assert not marker.exists()


def test_a_checkpoint_without_tensors_says_so(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", pickle.dumps({"epoch": 3}))
    with pytest.raises(ModelError, match="holds no tensors by name"):
        read(path)
    buffer = io.BytesIO()
    pickle.dump([1, 2], buffer)
    with pytest.raises(ModelError, match="holds no tensors by name"):
        read(checkpoint(tmp_path / "b.pth", buffer.getvalue()))


def test_a_checkpoint_with_code_is_told_apart_from_one_that_is_unknown(tmp_path: Path) -> None:
    training = checkpoint(tmp_path / "training.pth", b"(S'args'\ncargparse\nNamespace\nd.")
    with pytest.raises(ModelError, match=r"holds 'argparse\.Namespace' in place of tensors"):
        read_model(training)
    unknown = checkpoint(
        tmp_path / "unknown.pth", tensor_pickle("(I2\nt", "(I1\nt"), {"0": bytes(8)}
    )
    with pytest.raises(ModelError, match="is not a model that vitedge can read"):
        read_model(unknown)


def test_a_checkpoint_of_an_old_torch_says_how_to_save_it_again(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    # What torch.save writes first with _use_new_zipfile_serialization=False.
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"and so on")
    with pytest.raises(ModelError, match=r"torch's format before 1\.6"):
        read_model(path)
