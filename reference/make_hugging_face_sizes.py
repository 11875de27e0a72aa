"""What transformers computes of its golden models on images of other sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from reference.golden import HALVES, normalized


@dataclass(frozen=True)
class SizeCase:
    """A golden model, and images of a size that is not its own.

    Attributes:
        name: The golden folder, without ``hugging_face_``.
        size: Height and width of the images in pixels.
        is_configured: The size is the config's, too, before the model is made; else the model is
            made as it was saved, and moves its positions.
        output: What is read of the model's outputs.
        arguments: Further arguments of the model's call.
    """

    name: str
    size: tuple[int, int]
    is_configured: bool = False
    output: str = "logits"
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = (
    # One side of the last stage's grid is no larger than a window, the other is.
    SizeCase("swin", (32, 16), is_configured=True),
    SizeCase("swinv2", (32, 16), is_configured=True),
    # SwinV2's windows were clipped when it was made.
    SizeCase("swinv2", (32, 32), arguments={"interpolate_pos_encoding": True}),
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
        pixels = normalized(rng.integers(0, 256, (2, height, width, 3), np.uint8), HALVES)
        batch = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            values = model(batch, **case.arguments)[case.output].numpy()
        key = f"{case.name} {height}x{width}{' config' if case.is_configured else ''}"
        found[key] = values
    np.savez_compressed(output, **found)
