"""The stock route from torch to TFLite: litert-torch, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reference.zoo.family import MEAN, STD, STOCK_TFLITE_FILE, first_line
from reference.zoo.images import shown


class OfRawPixels(nn.Module):
    """A model whose input and output are laid out as those of our artefacts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(MEAN))
        self.register_buffer("std", torch.tensor(STD))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw pixels ``(1, H, W, 3)`` to the main output; maps have their channels last."""
        normalized = (pixels / 255 - self.mean) / self.std
        output = self.model(normalized.permute(0, 3, 1, 2))
        output = output[0] if isinstance(output, tuple) else output
        return output.permute(0, 2, 3, 1) if output.ndim == 4 else output


def is_installed() -> bool:
    """Whether litert-torch is here."""
    return importlib.util.find_spec("litert_torch") is not None


def export_tflite(model: nn.Module, size: tuple[int, int], folder: Path) -> None:
    """Writes litert-torch's float32 file, which the stock quantizer takes.

    A model that litert-torch cannot convert stays without a file, and the reason is printed.
    """
    import litert_torch

    example = (torch.from_numpy(shown(size, 1).astype(np.float32)),)
    try:
        converted = litert_torch.convert(OfRawPixels(model).eval(), example)
        converted.export(str(folder / STOCK_TFLITE_FILE))
    except Exception as error:  # whatever its parts raise
        print(f"{folder.name}: litert-torch: {first_line(error)}", flush=True)
