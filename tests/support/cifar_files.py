"""Small files in the binary form of CIFAR."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CIFAR_10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def write_batch(path: Path, labels: list[int], seed: int, coarse: bool = False) -> np.ndarray:
    """Writes records as the CIFAR page describes them; returns the pixels (N, 32, 32, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for label, image in zip(labels, pixels, strict=True):
            stream.write(bytes([19, label] if coarse else [label]))
            for channel in range(3):
                stream.write(image[:, :, channel].tobytes())
    return pixels


def write_cifar_10(folder: Path) -> list[np.ndarray]:
    """Writes all six batches, two images each; returns the pixels of those to train on."""
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR_10) + "\n\n")
    write_batch(folder / "test_batch.bin", [9, 3], seed=9)
    return [
        write_batch(folder / f"data_batch_{number}.bin", [number, 0], seed=number)
        for number in range(1, 6)
    ]
