"""Lets torchvision be imported beside a torch of another build.

Its wheels on PyPI are built for CUDA. Beside a CPU torch their compiled operators do not load, and
importing torchvision, which timm and transformers do, fails where it describes two of them:
``RuntimeError: operator torchvision::nms does not exist``. They serve detection and play no part in
a classifier, so it is enough that they have a name. With a matching wheel this does nothing.
"""

from __future__ import annotations

import importlib.util
import sys

import torch


def name_missing_operators() -> None:
    """Declares the two operators, without an implementation, unless torchvision has its own."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401 - whether it can be
    except RuntimeError:
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                _library().define(
                    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


_LIBRARIES: list[torch.library.Library] = []
"""What was declared lives as long as its library."""


def _library() -> torch.library.Library:
    if not _LIBRARIES:
        _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
    return _LIBRARIES[0]
