"""Random weights for torch models, and their logits."""

from __future__ import annotations

import math

import numpy as np
import torch

_TOKENS = ("pos_embed", "pos_embedding", "position_embeddings", "token", "tokens")


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives every parameter random values of trained sizes: nothing is zero, nothing saturates."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and name.endswith(
                ("weight", "gamma", "lambda1", "gamma_1", "gamma_2", "lambda_1", "lambda_2")
            ):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif name.endswith(
                ("pos_embed", "pos_embedding", "position_embeddings", "token", "tokens")
            ):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / math.sqrt(math.prod(parameter.shape[1:])))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                noise = torch.randn(buffer.shape, generator=generator)
                buffer.copy_(0.1 * noise if name.endswith("mean") else 1 + 0.2 * noise.abs())
    return model.eval()


def logits_of(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Logits of normalised pixels ``(N, H, W, C)``."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        output = model(batch)
    return (output if isinstance(output, torch.Tensor) else output.logits).numpy()
