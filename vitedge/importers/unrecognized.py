"""Explains why no importer recognises a source, so that the error says what to do about it."""

from __future__ import annotations

from pathlib import Path

from vitedge.errors import ModelError
from vitedge.files.hdf5_storage import why_elsewhere
from vitedge.files.json_values import shown
from vitedge.files.zip_members import is_zip
from vitedge.importers.reading.hdf5_file import hdf5_names
from vitedge.importers.reading.json_file import peek_json, read_json
from vitedge.importers.reading.npz_file import npz_names
from vitedge.importers.reading.safetensors_file import safetensors_names
from vitedge.importers.reading.torch_file import torch_names

_KINDS = {
    ".keras": "Keras",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".npz": "NumPy",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".safetensors": "safetensors",
}
_FILES = ".safetensors, .pth, .npz, .keras, .h5 and .onnx files"
_FOLDERS = (
    "a config.json with weights (Hugging Face), a task.json (KerasHub) or a saved_model.pb "
    "(TensorFlow)"
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_CONFIGS = ("config.json", "task.json")
_NAMES_SHOWN = 3


def why_unrecognized(source: Path) -> str:
    """Says what a source holds instead of a model, and what to do, in a clause."""
    if source.is_dir():
        return _why_folder(source)
    if source.stat().st_size == 0:
        return "it is empty"
    elsewhere = why_elsewhere(source)
    if elsewhere:
        return elsewhere
    names = sorted(_tensor_names(source))
    if names:
        shown = ", ".join(f"'{name}'" for name in names[:_NAMES_SHOWN])
        return (
            f"it holds {len(names)} arrays by names of no known vision transformer ({shown}), and "
            "not how they are computed with; give the whole model as .keras, SavedModel or .onnx"
        )
    kind = _KINDS.get(source.suffix)
    if kind is None:
        return f"it is none of {_FILES}"
    if is_zip(source):
        return f"it is a ZIP archive, but holds nothing of a {kind} file"
    return f"it is truncated or not a {kind} file"


def _why_folder(folder: Path) -> str:
    for config in (folder / name for name in _CONFIGS):
        if config.is_file():
            try:
                read_json(config)
            except ModelError as error:
                return str(error)
    kind = peek_json(folder / "config.json").get("model_type")
    if kind is not None and not any((folder / name).is_file() for name in _WEIGHTS):
        return f"beside its config.json lies none of {', '.join(_WEIGHTS)}"
    if kind is not None:
        return f"its config.json is of a {shown(kind)}, not known by name: export it to .onnx"
    return f"a folder needs {_FOLDERS} in it"


def _tensor_names(path: Path) -> frozenset[str]:
    return safetensors_names(path) or torch_names(path) or npz_names(path) or hdf5_names(path)
