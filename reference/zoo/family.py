"""What a family is, and what its maker leaves in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SOURCE_FILE, EXPECTED_FILE = "source.json", "expected.npz"

STOCK_TFLITE_FILE = "stock.tflite"
"""The float32 TFLite file that a torch model's own converter makes, where that is installed."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """One model that stands for its family.

    Attributes:
        name: Name of its folder: ``timm.cait``.
        architecture: What its library calls it.
        size: Height and width of its images in pixels.
        make: Called with the folder, writes the model and what it computes.
    """

    name: str
    architecture: str
    size: tuple[int, int]
    make: Callable[[Family, Path], Source]


@dataclass(frozen=True)
class Source:
    """The files of a model, relative to its folder.

    Attributes:
        architecture: What its library calls it.
        size: Height and width of its images in pixels.
        by_name: A checkpoint, or None where the library has no files that are read by name.
        options: What an importer by name has to be told, as fields of ``ImportOptions``.
        traced: A graph with its weights: ONNX or Keras.
        told: What is said of the graph: fields of ``ImportOptions``.
        parameters: How many weights it has.
    """

    architecture: str
    size: tuple[int, int]
    by_name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    traced: str | None = None
    told: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0

    def write(self, folder: Path) -> None:
        """Writes it as JSON."""
        (folder / SOURCE_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Reads it from JSON."""
        values = json.loads((folder / SOURCE_FILE).read_text("utf-8"))
        return cls(**{**values, "size": tuple(values["size"])})


def first_line(error: BaseException, length: int = 300) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0][:length]
