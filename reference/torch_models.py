"""Random weights for torch models, and their logits."""

from __future__ import annotations

import math

import numpy as np
import torch

# torchvision's wheels on PyPI are built for CUDA; beside a CPU torch their compiled operators do
# not load, and importing torchvision, or timm, fails where it describes two of them. Detection
# operators play no part here, so naming them is enough.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives every parameter random values of trained sizes: nothing is zero, nothing saturates."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and name.endswith(("weight", "gamma", "lambda1")):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif name.endswith(("pos_embed", "pos_embedding", "position_embeddings", "token")):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / math.sqrt(math.prod(parameter.shape[1:])))
    return model.eval()


def logits_of(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Logits of normalised pixels ``(N, H, W, C)``."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        output = model(batch)
    return (output if isinstance(output, torch.Tensor) else output.logits).numpy()
