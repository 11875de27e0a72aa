"""vitedge: vision transformers to TFLite, ONNX and OpenVINO, and honest numbers about them.

On a device::

    import vitedge

    with vitedge.load("model.int8.tflite") as model:
        print(model.classify("photo.jpg"))

Where models are made, a function for each command, which takes paths and what lies in memory::

    made = vitedge.convert(keras_model, calibration=photos)
    report = vitedge.bench(made.paths, data=(images, labels), reference=keras_model)

Importing this package loads no engine. Where Keras is in use, it also makes our layers known to
``keras.saving.load_model``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vitedge.errors import VitedgeError
from vitedge.in_keras import hook as _keras_hook

if TYPE_CHECKING:
    from vitedge.api.bench import bench
    from vitedge.api.compare import compare
    from vitedge.api.convert import convert
    from vitedge.api.importing import import_model
    from vitedge.api.inspect import inspect
    from vitedge.api.labels import label_by_text
    from vitedge.api.pick import pick
    from vitedge.api.train import train
    from vitedge.classifier import Classifier, Embedder, Mapper, Regressor, load

__all__ = [
    "train",
    "import_model",
    "label_by_text",
    "convert",
    "bench",
    "pick",
    "compare",
    "inspect",
    "load",
    "Classifier",
    "Regressor",
    "Embedder",
    "Mapper",
    "VitedgeError",
]
__version__ = "0.1.0"

_MODULES = {
    "Classifier": "classifier",
    "Embedder": "classifier",
    "Mapper": "classifier",
    "Regressor": "classifier",
    "load": "classifier",
    "bench": "api.bench",
    "compare": "api.compare",
    "convert": "api.convert",
    "import_model": "api.importing",
    "inspect": "api.inspect",
    "label_by_text": "api.labels",
    "pick": "api.pick",
    "train": "api.train",
}
"""Where each public name is defined; it is imported when it is first used."""


class _Package(ModuleType):
    """The package, whose public names come before its folders of the same names.

    Importing ``vitedge.bench.run`` would otherwise replace the function by the folder.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MODULES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Package
_keras_hook.install()


def __getattr__(name: str) -> Any:
    # `load` brings NumPy along; `vitedge --help` shall not wait for it.
    if name not in _MODULES:
        raise AttributeError(f"module 'vitedge' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"vitedge.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
