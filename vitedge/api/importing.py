"""``vitedge.import_model``: a checkpoint becomes a Keras model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, import_options
from vitedge.api.photos import photos_of
from vitedge.images.image_sets import open_images
from vitedge.images.in_memory import Images
from vitedge.network.summary import summary
from vitedge.network.tasks import Task
from vitedge.pipeline.keras_model import import_model as write_imported
from vitedge.pipeline.source_check import check_source
from vitedge.report.shown import Block, Shown
from vitedge.terminal.progress import Progress, silent

if TYPE_CHECKING:
    from typing import Unpack


@dataclass(frozen=True, repr=False)
class ImportedModel(Shown):
    """A model that ``import_model`` read.

    Attributes:
        path: The Keras model that was written, or None.
        read: The way in which the source was read, and how near its logits are to the source's, in
            words.
        architecture: The model's sizes, in words.
        parameters: Number of its weights.
        classes: Number of its classes.
        findings: The checks that were made, a sentence each; empty unless ``check`` was asked for.
        task: The meaning of the model's outputs.
    """

    path: Path | None
    read: str
    architecture: str
    parameters: int
    classes: int
    findings: tuple[str, ...] = ()
    task: Task = Task.CLASSES

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The way the model was read, its sizes, the checks and the files."""
        return [
            self.read,
            f"{self.architecture}, {self.parameters:,} parameters, {self._gives}",
            *(f"checked: {finding}" for finding in self.findings),
            *([f"wrote {self.path}"] if self.path is not None else []),
        ]

    @property
    def _gives(self) -> str:
        counted = {Task.CLASSES: "classes", Task.LABELS: "labels"}.get(self.task)
        return self.task.words if counted is None else f"{self.classes} {counted}"


def import_model(
    model: Model,
    output: str | os.PathLike[str] | None = "model.keras",
    *,
    check: bool = False,
    images: Images | None = None,
    force: bool = False,
    progress: Progress = silent,
    warn: Tell = python_warning,
    **source: Unpack[SourceOptions],
) -> ImportedModel:
    """Reads a vision transformer and writes it as a Keras model.

    The model that is written carries its preprocessing and labels; ``convert`` and
    ``keras.saving.load_model`` read it.

    Args:
        model: A checkpoint, a Keras model, a SavedModel or an ONNX file; or a Keras model in
            memory.
        output: The ``.keras`` file to write; None only reads.
        check: Only read and compare, and write nothing; the result's ``findings`` say more.
        images: Photos to compare logits with the source's on, besides synthetic images.
        force: Overwrite what exists.
        progress: Told how far things are.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Raises:
        UsageError: The output exists, or is not a ``.keras`` file.
        ModelError: The model cannot be read.
        ParityError: The model that was read does not compute what the source computes.
        UnavailableError: Keras is not installed.
    """
    photos = photos_of(images)
    compared = None if photos is None else open_images(photos)
    written = None if output is None or check else Path(output)
    findings: tuple[str, ...] = ()
    with opened(model, import_options(source, warn)) as found:
        importing = found.importing.compared_on(compared)
        if check:
            checked = check_source(found.path, importing, progress=progress)
            imported, findings = checked.imported, checked.findings
        else:
            imported = write_imported(
                found.path, written, importing, force=force, progress=progress
            )
    network = imported.network
    return ImportedModel(
        written,
        imported.path,
        str(summary(network)),
        network.parameters,
        network.classes,
        findings,
        network.task,
    )
