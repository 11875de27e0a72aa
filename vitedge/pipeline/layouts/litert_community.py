"""A folder as https://huggingface.co/litert-community has them: TFLite files, labels and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.converters.tflite.metadata import LABELS_FILE, label_lines
from vitedge.files.staging import write_whole
from vitedge.network.summary import Summary
from vitedge.pipeline.layouts.model_card import model_card
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

_CARD = "README.md"

_USE = """\
```python
import vitedge

with vitedge.load("{file}") as model:
    print(model.classify("photo.jpg"))
```

The files carry TFLite Metadata with their labels, so MediaPipe's `ImageClassifier` and Android
Studio open them as they are."""


@dataclass(frozen=True)
class LiteRTCommunity:
    """See ``FolderLayout``."""

    format: Format = Format.TFLITE
    files: Mapping[Precision, str] = field(
        default_factory=lambda: {
            Precision.FP32: "model.tflite",
            Precision.FP16: "model_fp16.tflite",
            Precision.INT8: "model_int8.tflite",
            Precision.INT8_STATIC: "model_int8_static.tflite",
            Precision.W8A16: "model_w8a16.tflite",
            Precision.INT4: "model_int4.tflite",
        }
    )
    beside: tuple[str, ...] = (_CARD, LABELS_FILE)

    def demand_fit(self, *, probabilities: bool, batch: int) -> None:
        """See ``FolderLayout``; its clients take everything."""

    def adapted(self, draft: Draft) -> Draft:
        """See ``FolderLayout``; the file is as its clients take it."""
        return draft

    def describe(self, folder: Path, written: Sequence[Written], model: Summary) -> None:
        """See ``FolderLayout``."""
        front_matter = {
            "library_name": "litert",
            "pipeline_tag": "image-classification",
            "tags": ["vision", "image-classification", "tflite", "vitedge"],
        }
        file = written[0].path.relative_to(folder).as_posix()
        names = label_lines(written[0].metadata)
        write_whole(folder / LABELS_FILE, "".join(f"{name}\n" for name in names))
        card = model_card(front_matter, folder, written, _USE.format(file=file))
        write_whole(folder / _CARD, card)
