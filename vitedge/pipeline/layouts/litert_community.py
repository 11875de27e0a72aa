"""A folder as https://huggingface.co/litert-community has them: TFLite files, labels and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitedge.artifacts.metadata import Metadata
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.converters.tflite.metadata import LABELS_FILE, label_lines
from vitedge.files.staging import write_whole
from vitedge.images.preprocess import Preprocessing
from vitedge.network.summary import Summary
from vitedge.network.tasks import Task
from vitedge.pipeline.layouts.model_card import front_matter, in_vitedge, model_card
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

_CARD = "README.md"

_IN_MEDIAPIPE = """\
The files carry TFLite Metadata{labels}, so MediaPipe's `{client}` and Android Studio open them as
they are."""

_OPEN_IN_STUDIO = "The files carry TFLite Metadata, which Android Studio shows."

# Scores of other tasks are no shares of one another, which its classifier takes them for.
_CLIENTS = {Task.CLASSES: "ImageClassifier", Task.EMBEDDING: "ImageEmbedder"}


@dataclass(frozen=True)
class LiteRTCommunity:
    """See ``FolderLayout``."""

    name: Layout = Layout.LITERT_COMMUNITY
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

    def demand_model(
        self,
        task: Task,
        shape: Sequence[int],
        labels: Sequence[str],
        preprocessing: Preprocessing,
    ) -> None:
        """See ``FolderLayout``; a TFLite file of every task has its place there."""

    def adapted(self, draft: Draft) -> Draft:
        """See ``FolderLayout``; the file is as its clients take it."""
        return draft

    def describe(self, folder: Path, written: Sequence[Written], model: Summary | None) -> None:
        """See ``FolderLayout``."""
        metadata = written[0].metadata
        names = label_lines(metadata)
        (folder / LABELS_FILE).unlink(missing_ok=True)  # of a model that was there before
        if names:
            write_whole(folder / LABELS_FILE, "".join(f"{name}\n" for name in names))
        file = written[0].path.relative_to(folder).as_posix()
        use = f"{in_vitedge(file, metadata.task)}\n\n{_in_others(metadata)}"
        matter = front_matter("litert", "tflite", metadata)
        write_whole(folder / _CARD, model_card(matter, folder, written, use))


def _in_others(metadata: Metadata) -> str:
    client = _CLIENTS.get(metadata.task)
    if client is None:
        return _OPEN_IN_STUDIO
    labels = " with their labels" if metadata.labels else ""
    return _IN_MEDIAPIPE.format(client=client, labels=labels)
