"""The description that ``vitedge inspect`` shows: a model's config, or an artefact's insides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vitedge.artifacts.contents import Operator, Port
from vitedge.artifacts.metadata import Metadata, format_of, read_metadata, size_of
from vitedge.converters.generic.model import open_generic
from vitedge.errors import NotAViTError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions, read_model
from vitedge.inspection.interface import client_needs, read_interface
from vitedge.inspection.operators import read_operators
from vitedge.network.summary import summary
from vitedge.report.shown import Block, Shown
from vitedge.targets.formats import all_formats


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """Everything that a file says.

    Attributes:
        path: The file.
        size_mb: Bytes of all its files over 10^6.
        classes: Number of labels or logits, or None when unknown.
        labels: One name per class, or empty.
        preprocessing: The steps from an image to pixels, or None if the file does not say.
        parameters: Number of weights of the model, or None when unknown.
        macs: Multiply-accumulates of one image, or None when unknown.
        config: Sizes and choices of a model; empty for an artefact.
        read: The way in which a model was read; empty for an artefact.
        metadata: The metadata of an artefact; None for a model or a foreign artefact.
        operators: An artefact's operators with their counts, the most frequent first.
        inputs: An artefact's inputs.
        outputs: An artefact's outputs.
        clients: The things that an artefact lacks for each other client of its format; empty for a
            client that takes the file unchanged.
    """

    path: Path
    size_mb: float
    classes: int | None = None
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    parameters: int | None = None
    macs: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    read: str = ""
    metadata: Metadata | None = None
    operators: tuple[tuple[Operator, int], ...] = ()
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    clients: dict[str, str] = field(default_factory=dict)

    def blocks(self, width: int | None) -> Sequence[Block]:
        """Facts, then an artefact's inputs, outputs and operators."""
        from vitedge.inspection.shown import blocks

        return blocks(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        values = asdict(self) | {"path": str(self.path)}
        values["operators"] = [
            asdict(operator) | {"count": count} for operator, count in self.operators
        ]
        return values


def inspect(path: Path, options: ImportOptions | None = None) -> Inspection:
    """Reads whatever kind of file this is.

    Args:
        path: The file.
        options: The options that a model's file needs to be read.

    Raises:
        ModelError: The file is missing, truncated, or neither an artefact nor a model.
    """
    if path.suffix.lower() in {known.suffix for known in all_formats()} and path.is_file():
        return _inspect_artifact(path)
    return _inspect_model(path, options or ImportOptions())


def _inspect_artifact(path: Path) -> Inspection:
    metadata = read_metadata(path)
    counted = read_operators(path)
    operators = tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
    ends = read_interface(path, metadata)
    bare = Inspection(
        path,
        size_of(path) / 1e6,
        operators=operators,
        inputs=ends.inputs,
        outputs=ends.outputs,
        clients=client_needs(format_of(path), ends, metadata),
    )
    if metadata is None:
        return bare
    return replace(
        bare,
        classes=len(metadata.labels) or None,
        labels=metadata.labels,
        preprocessing=metadata.preprocessing,
        parameters=metadata.parameters or None,
        macs=metadata.macs or None,
        metadata=metadata,
    )


def _inspect_model(path: Path, options: ImportOptions) -> Inspection:
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    size_mb = sum(part.stat().st_size for part in files) / 1e6
    try:
        imported = read_model(path, options)
    except NotAViTError as why:
        return _inspect_generic(path, size_mb, options, why)
    network = imported.network
    return Inspection(
        path,
        size_mb,
        classes=network.classes or None,
        labels=network.labels,
        preprocessing=network.preprocessing,
        parameters=network.parameters,
        macs=network.macs,
        config=summary(network).to_dict(),
        read=imported.path,
    )


def _inspect_generic(
    path: Path, size_mb: float, options: ImportOptions, why: NotAViTError
) -> Inspection:
    model = open_generic(path, options)
    return Inspection(
        path,
        size_mb,
        classes=model.classes,
        labels=model.labels,
        preprocessing=model.preprocessing,
        parameters=model.network.parameters,
        read=f"generic: {why}; {model.words}",
    )
