"""Makes the models that a folder lacks, each in a process's turn."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from reference.zoo.family import SOURCE_FILE, STOCK_TFLITE_FILE, Family, first_line

_LIBRARIES = {
    "timm": "timm_families",
    "transformers": "hugging_face_families",
    "torchvision": "torchvision_families",
    "keras_hub": "keras_families",
}
"""The module that lists a library's families, by the library's name."""


def families(words: Sequence[str]) -> list[Family]:
    """All families, or those whose names hold one of the words."""
    modules = (importlib.import_module(f"reference.zoo.{each}") for each in _LIBRARIES.values())
    found: list[Family] = [each for module in modules for each in module.FAMILIES]
    return [each for each in found if not words or any(word in each.name for word in words)]


def make(folder: Path, words: Sequence[str]) -> None:
    """Makes what is not there; what a library cannot make is said, and tried again next time."""
    warnings.filterwarnings("ignore")
    absent = {name for name in _LIBRARIES if importlib.util.find_spec(name) is None}
    for name in sorted(absent):
        print(f"{name} is not installed here: its families are left out", flush=True)
    for family in families(words):
        place = folder / family.name
        if family.name.partition(".")[0] in absent:
            continue
        if (place / SOURCE_FILE).exists():
            _add_stock(family, place)
            continue
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            family.make(family, place).write(place)
            print(f"{family.name}: made", flush=True)
        except Exception as error:  # whatever the libraries raise is one line
            shutil.rmtree(place)
            print(f"{family.name}: {type(error).__name__}: {first_line(error)}", flush=True)


def _add_stock(family: Family, place: Path) -> None:
    """Adds the stock converter's file to a torch model that was made before that was installed.

    A model is made from seeds, so making it again gives the same weights.
    """
    if family.name.startswith("keras_hub.") or (place / STOCK_TFLITE_FILE).exists():
        return
    from reference.zoo.torch_to_tflite import is_installed  # needs torch, as the family does

    if not is_installed():
        return
    with tempfile.TemporaryDirectory() as again:
        made = Path(again) / family.name
        made.mkdir()
        try:
            family.make(family, made)
        except Exception as error:  # whatever the libraries raise is one line
            print(f"{family.name}: {type(error).__name__}: {first_line(error)}", flush=True)
            return
        if (made / STOCK_TFLITE_FILE).exists():
            shutil.copy(made / STOCK_TFLITE_FILE, place / STOCK_TFLITE_FILE)
            print(f"{family.name}: litert-torch's file is made", flush=True)
