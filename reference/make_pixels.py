"""Pixels as torchvision's and timm's own evaluation transforms prepare them.

``tests/golden/pixels.npz`` holds small pictures of awkward shapes, and for each transform the
pixels that it makes of each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

Transform = Callable[[Image.Image], torch.Tensor]

# Height and width: lying, standing, long and thin, smaller than the crop, almost square.
SHAPES = ((48, 64), (71, 43), (20, 133), (11, 17), (37, 38))
# Mean 0 and deviation 1 leave pixels / 255, from which the pixels can be had back exactly.
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def picture(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth colours, edges and noise, uint8 ``(H, W, 3)``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = [127 + 120 * np.sin(rows / a + columns / b) for a, b in ((7, 5), (3, 11), (13, 2))]
    found = np.stack(waves, axis=-1) + rng.normal(0, 20, (*shape, 3))
    found[shape[0] // 3 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = (255, 0, 128)
    return found.clip(0, 255).astype(np.uint8)


def transforms_to_try() -> list[tuple[dict[str, Any], Transform]]:
    """Each transform, with the fields of the ``Preprocessing`` that must do the same."""
    found: list[tuple[dict[str, Any], Transform]] = []
    for name in ("bicubic", "bilinear", "nearest", "lanczos"):
        for crop, resize in ((24, 27), (25, 28)):
            fields = {"size": [crop, crop], "resize": resize, "interpolation": name}
            mode = InterpolationMode(name)
            torchvisions = ImageClassification(
                crop_size=crop, resize_size=resize, interpolation=mode, **PLAIN
            )
            found.append(({"library": "torchvision", **fields}, torchvisions))
    for name in ("bicubic", "bilinear"):
        for crop, share in ((24, 0.9), (24, 0.875), (24, 1.0)):
            timms = create_transform((3, crop, crop), interpolation=name, crop_pct=share, **PLAIN)
            fields = {"size": [crop, crop], "resize": int(crop / share), "interpolation": name}
            found.append(({"library": "timm", **fields}, timms))
        squashed = create_transform(
            (3, 24, 24), interpolation=name, crop_pct=1.0, crop_mode="squash", **PLAIN
        )
        fields = {"size": [24, 24], "resize": None, "interpolation": name}
        found.append(({"library": "timm", **fields}, squashed))
        squashed_more = create_transform(
            (3, 24, 20), interpolation=name, crop_pct=0.8, crop_mode="squash", **PLAIN
        )
        fields = {"size": [24, 20], "resize": [30, 25], "interpolation": name}
        found.append(({"library": "timm", **fields}, squashed_more))
    stretched = transforms.Compose(
        [transforms.Resize((24, 30), InterpolationMode.BICUBIC), transforms.ToTensor()]
    )
    fields = {"size": [24, 30], "resize": None, "interpolation": "bicubic"}
    found.append(({"library": "torchvision", **fields}, stretched))
    return found


def pixels_of(transform: Transform, image: np.ndarray) -> np.ndarray:
    """What a transform makes of a picture, before it is normalised: uint8 ``(H, W, 3)``."""
    scaled = transform(Image.fromarray(image)).numpy().transpose(1, 2, 0) * 255
    whole = np.rint(scaled)
    if np.abs(scaled - whole).max() > 1e-3:
        raise SystemExit("the transform did more than scale pixels by 1 / 255")
    return whole.astype(np.uint8)


def make(output: Path) -> None:
    """Writes the golden file."""
    arrays = {f"picture_{index}": picture(shape, index) for index, shape in enumerate(SHAPES)}
    cases = transforms_to_try()
    for number, (_, transform) in enumerate(cases):
        made = [pixels_of(transform, arrays[f"picture_{index}"]) for index in range(len(SHAPES))]
        arrays[f"pixels_{number}"] = np.stack(made)
    # What the network sees in the end, at ImageNet's mean and deviation.
    final = create_transform((3, 24, 24), interpolation="bicubic", crop_pct=0.9)
    arrays["normalized"] = final(Image.fromarray(arrays["picture_1"])).numpy().transpose(1, 2, 0)
    described = {
        "cases": [fields for fields, _ in cases],
        "made_with": {name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
    }
    arrays["described"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    np.savez_compressed(output, **arrays)
