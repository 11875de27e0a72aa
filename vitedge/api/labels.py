"""``vitedge.label_by_text``: the embeddings of texts become a model's head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.importing import ImportedModel
from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, import_options, label_names
from vitedge.errors import UsageError
from vitedge.files.staging import refuse_existing
from vitedge.network.summary import summary
from vitedge.network.tasks import Task
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.source_check import read_compared
from vitedge.pipeline.zero_shot import read_text_labels, text_labels_of, with_text_labels
from vitedge.terminal.progress import Progress, silent

if TYPE_CHECKING:
    from typing import Unpack


def label_by_text(
    model: Model,
    text_embeddings: str | os.PathLike[str] | None = None,
    names: str | os.PathLike[str] | Sequence[str] | None = None,
    output: str | os.PathLike[str] = "labelled.keras",
    *,
    classes: str | os.PathLike[str] | Sequence[str] | None = None,
    templates: Sequence[str] = (),
    scale: float | None = None,
    bias: float | None = None,
    as_labels: bool = False,
    force: bool = False,
    progress: Progress = silent,
    warn: Tell = python_warning,
    **source: Unpack[SourceOptions],
) -> ImportedModel:
    """Gives a model that embeds images a head that names them by texts, and writes it.

    Args:
        model: A model whose output is an embedding.
        text_embeddings: An ``.npz`` file with ``embeddings`` ``(texts, width)``, made by the text
            model that belongs to it, and perhaps ``scale`` and ``bias``.
        names: One for each text, or a text file with one a line.
        output: The ``.keras`` file to write, which ``convert`` reads.
        classes: Instead of embeddings and names: texts, or a text file with one a line, that the
            model's own text tower embeds; the model is a folder of CLIP, SigLIP or SigLIP 2.
        templates: Sentences that say a class where they have ``{}``; of several, the mean counts.
        scale: The factor of cosines, instead of the file's or the model's.
        bias: The term that is added to scaled cosines, instead of the file's or the model's.
        as_labels: Each text is right or not by itself, as of SigLIP; else one of them is, but for
            the texts of SigLIP's own tower.
        force: Overwrite what exists.
        progress: Told how far things are.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Raises:
        UsageError: The output exists, there is no scale, another number of names than texts, or
            neither embeddings nor classes.
        ModelError: The model cannot be read, gives no embedding of the texts' width, or has no text
            tower.
        DataError: The embeddings cannot be read.
        UnavailableError: Keras, or the package for tokenizers, is not installed.
    """
    written = Path(output)
    if written.suffix != ".keras":
        raise UsageError(f"'{written}' must end in .keras")
    refuse_existing([written], force=force)
    _demand_one_kind(text_embeddings, names, classes, templates)
    progress("reading the model", 0, 2)
    with opened(model, import_options(source, warn)) as found:
        if classes is not None:
            named = _stripped(classes)
            path, told = found.path, found.importing
            texts, task = text_labels_of(
                path, named, told, templates=templates, scale=scale, bias=bias
            )
        else:
            assert text_embeddings is not None
            assert names is not None
            file, named = Path(text_embeddings), _stripped(names)
            texts, task = read_text_labels(file, named, scale=scale, bias=bias), Task.CLASSES
        imported = read_compared(found.path, found.importing)
    network = with_text_labels(imported.network, texts, Task.LABELS if as_labels else task)
    progress(f"writing {written.name}", 1, 2)
    origin = imported.path if imported.origin is None else imported.origin
    named_by = f"named by {len(texts.names)} texts"
    write_keras(network, written, origin=", ".join(filter(None, (origin, named_by))))
    return ImportedModel(
        written,
        imported.path,
        str(summary(network)),
        network.parameters,
        network.classes,
        task=network.task,
    )


def _stripped(names: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in label_names(names))


def _demand_one_kind(
    text_embeddings: object, names: object, classes: object, templates: Sequence[str]
) -> None:
    """Refuses texts that are given in no way, or in two.

    Raises:
        UsageError: The texts are given in no way, or in two.
    """
    if (classes is None) == (text_embeddings is None):
        raise UsageError(
            "give either --classes, which the model's own text tower embeds, or --text-embeddings "
            "with --names"
        )
    if (names is None) != (text_embeddings is None):
        raise UsageError("--text-embeddings and --names go together")
    if templates and classes is None:
        raise UsageError("--template says how --classes are put into words; give them too")
