"""Lets torchvision be imported beside a torch of another build.

Its wheels on PyPI are built for CUDA. Beside a CPU torch their compiled operators do not load, and
importing torchvision, which timm and transformers do, fails where it describes two of them:
``RuntimeError: operator torchvision::nms does not exist``. They serve detection and play no part in
a classifier, so it is enough that they have a name. With a matching wheel this does nothing.
"""

from __future__ import annotations

import importlib.util

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def name_missing_operators() -> None:
    """Declares the two operators, without an implementation, unless torchvision loads its own."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.submodule_search_locations is None:
        return
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
