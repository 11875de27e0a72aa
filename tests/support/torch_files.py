"""Files of torch, written without it: a zip of raw arrays around a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "f8": "DoubleStorage"}


class Opcodes(bytes):
    """A value in opcodes, as ``b"cargparse\\nNamespace\\n)R"``."""


def save_torch(path: Path, content: Any) -> Path:
    """Writes what ``torch.save`` would; arrays are tensors, ``Opcodes`` go in as they are."""
    arrays: dict[int, tuple[str, np.ndarray]] = {}

    def dumped(value: Any) -> bytes:
        match value:
            case Opcodes():
                return bytes(value)
            case None:
                return b"N"
            case dict():
                items = (dumped(key) + dumped(inner) + b"s" for key, inner in value.items())
                return b"}" + b"".join(items)
            case list():
                return b"(" + b"".join(map(dumped, value)) + b"l"
            case str():
                return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()
            case int() | float():
                return f"F{value!r}\n".encode() if isinstance(value, float) else b"I%d\n" % value
        return tensor(value)

    def tensor(array: np.ndarray) -> bytes:
        key, _ = arrays.setdefault(id(array), (str(len(arrays)), array))
        storage = _STORAGES[array.dtype.str[1:]]
        shape = "".join(f"I{size}\n" for size in array.shape)
        strides = "".join(f"I{step // array.itemsize}\n" for step in array.strides)
        return (
            f"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n{storage}\nS'{key}'\n"
            f"S'cpu'\nI{array.size}\ntQI0\n({shape}t({strides}tI00\nNtR"
        ).encode()

    pickled = dumped(content) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, array in arrays.values():
            archive.writestr(f"a/data/{key}", array.tobytes())
    return path


def timm_weights(
    *,
    classes: int = 5,
    channels: int = 3,
    grid: tuple[int, int] = (2, 2),
    patch: int = 8,
    head: tuple[str, ...] = ("head",),
    dim: int = 16,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Random weights of two blocks under timm's names."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + grid[0] * grid[1], dim),
        "patch_embed.proj.weight": (dim, channels, patch, patch),
        "patch_embed.proj.bias": (dim,),
    }
    for index in range(2):
        for name, size in {
            "norm1": (dim,),
            "attn.qkv": (3 * dim, dim),
            "attn.proj": (dim, dim),
            "norm2": (dim,),
            "mlp.fc1": (4 * dim, dim),
            "mlp.fc2": (dim, 4 * dim),
        }.items():
            shapes[f"blocks.{index}.{name}.weight"] = size
            shapes[f"blocks.{index}.{name}.bias"] = size[:1]
    for name in ("norm", *head):
        size = (dim,) if name == "norm" else (classes, dim)
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 0.2).astype(np.float32)
        for name, shape in shapes.items()
    }
