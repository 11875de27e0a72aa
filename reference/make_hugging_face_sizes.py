"""What transformers computes of its golden models on images of other sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from reference.golden import HALVES, IMAGENET, normalized


@dataclass(frozen=True)
class SizeCase:
    """A golden model, and images of a size that is not its own.

    Attributes:
        name: The golden folder, without ``hugging_face_``.
        size: Height and width of the images in pixels.
        output: What is read of the model's outputs.
        is_configured: The size is the config's, too, before the model is made; else the model is
            made as it was saved, and moves its positions.
        arguments: Further arguments of the model's call.
    """

    name: str
    size: tuple[int, int]
    output: str = "logits"
    is_configured: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


_MOVE = {"interpolate_pos_encoding": True}
_TWO = ((24, 24), (8, 12))
"""Larger, and smaller, where filters differ."""

CASES = (
    # One side of the last stage's grid is no larger than a window, the other is.
    SizeCase("swin", (32, 16), is_configured=True),
    SizeCase("swinv2", (32, 16), is_configured=True),
    # SwinV2's windows were clipped when it was made.
    SizeCase("swinv2", (32, 32), arguments=_MOVE),
    *(SizeCase(name, (24, 16), arguments=_MOVE) for name in ("vit", "deit", "msn", "ijepa")),
    *(SizeCase("clip_vision", size, "pooler_output", arguments=_MOVE) for size in _TWO),
    SizeCase("siglip_classifier", (24, 24), arguments=_MOVE),
    *(SizeCase(f"dinov2{name}", size) for name in ("", "_registers") for size in _TWO),
    *(SizeCase("siglip2_vision", size, "pooler_output") for size in _TWO),
)


def make(golden: Path, output: Path) -> None:
    """Writes the outputs by ``name HEIGHTxWIDTH``, those of a configured size with ``config``."""
    found = {}
    for case in CASES:
        folder = golden / f"hugging_face_{case.name}"
        config = transformers.AutoConfig.from_pretrained(folder)
        kind = getattr(transformers, config.architectures[0])
        changes = {"image_size": list(case.size)} if case.is_configured else {}
        model = kind.from_pretrained(folder, **changes).eval()
        height, width = case.size
        rng = np.random.default_rng(7)
        statistics = IMAGENET if case.name.startswith("dinov2") else HALVES
        pixels = normalized(rng.integers(0, 256, (2, height, width, 3), np.uint8), statistics)
        batch = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        inputs = {"pixel_values": batch, **case.arguments}
        if config.model_type == "siglip2_vision_model":
            inputs = _patches(batch, config.patch_size)
        with torch.no_grad():
            values = model(**inputs)[case.output].numpy()
        key = f"{case.name} {height}x{width}{' config' if case.is_configured else ''}"
        found[key] = values
    np.savez_compressed(output, **found)


def _patches(batch: torch.Tensor, side: int) -> dict[str, torch.Tensor]:
    """The patches that SigLIP 2 reads, whatever the shape of the image."""
    n, channels, height, width = batch.shape
    rows, columns = height // side, width // side
    cut = batch.reshape(n, channels, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": cut.reshape(n, rows * columns, -1),
        "pixel_attention_mask": torch.ones(n, rows * columns, dtype=torch.int32),
        "spatial_shapes": torch.tensor([[rows, columns]] * n),
    }
