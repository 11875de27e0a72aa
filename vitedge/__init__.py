"""vitedge: Vision Transformers to TFLite, ONNX and OpenVINO, and honest numbers about them.

On a device::

    import vitedge

    with vitedge.load("model.int8.tflite") as model:
        print(model.classify("photo.jpg"))

Importing this package loads no engine. Where Keras is in use, it also makes our layers known to
``keras.saving.load_model``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitedge.errors import VitedgeError
from vitedge.in_keras import hook as _keras_hook

if TYPE_CHECKING:
    from vitedge.classifier import Classifier, Embedder, Mapper, Regressor, load

__all__ = ["Classifier", "Embedder", "Mapper", "Regressor", "VitedgeError", "load"]
__version__ = "0.1.0"

_keras_hook.install()


def __getattr__(name: str) -> Any:
    # `load` brings NumPy along; `vitedge --help` shall not wait for it.
    if name in __all__:
        from vitedge import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'vitedge' has no attribute {name!r}")
