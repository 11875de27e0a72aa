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
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_WEIGHTS = (*_WHOLE, "model.safetensors.index.json")
_CONFIGS = ("config.json", "task.json")
_NAMES_SHOWN = 3
_LONGEST_NAME = 60  # timm's have up to 39 letters, without tags


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
    told = _named_in(source.parent / "config.json")
    if names and told:
        return f"the config.json beside it is of {told}"
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
    for path in (folder / name for name in _CONFIGS):
        if path.is_file():
            try:
                read_json(path)
            except ModelError as error:
                return str(error)
    config = peek_json(folder / "config.json")
    kind = config.get("model_type")
    is_named = kind is not None or "architecture" in config
    if is_named and not any((folder / name).is_file() for name in _WEIGHTS):
        return f"beside its config.json lies none of {', '.join(_WEIGHTS)}"
    for weights in (folder / name for name in _WHOLE):
        if is_named and weights.is_file() and not _tensor_names(weights):
            return f"its {weights.name} is not a model: {why_unrecognized(weights)}"
    for name in _CONFIGS:
        told = _named_in(folder / name)
        if told:
            return f"its {name} is of {told}"
    return f"a folder needs {_FOLDERS} in it"


def _named_in(config: Path) -> str:
    """The model that a config names, and what to do; empty if it names none."""
    told = peek_json(config)
    preset = told.get("registered_name")
    if isinstance(preset, str) and preset.startswith("keras_hub"):
        return (
            f"KerasHub's {shown(preset)}, which vitedge does not read from a preset: save the "
            "model as .keras, or export it as a SavedModel"
        )
    architecture, kind = told.get("architecture"), told.get("model_type")
    if isinstance(architecture, str):
        # timm's: its hub folders name it in place of a model_type, transformers' wrapper beside one
        name = f"'{architecture}'" if len(architecture) <= _LONGEST_NAME else shown(architecture)
        return (
            f"the architecture {name}, whose weights vitedge does not read by name: "
            "export it to .onnx"
        )
    return "" if kind is None else f"a {shown(kind)}, not known by name: export it to .onnx"


def _tensor_names(path: Path) -> frozenset[str]:
    return safetensors_names(path) or torch_names(path) or npz_names(path) or hdf5_names(path)
