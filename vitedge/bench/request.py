"""``vitedge bench``: which artefacts, which images, which reference; then the bench itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vitedge.artifacts.metadata import format_of, read_metadata, sha256_of
from vitedge.bench import builtin
from vitedge.bench.candidates import probe_all
from vitedge.bench.overlap import overlaps
from vitedge.bench.reference import (
    ArtifactReference,
    ModelReference,
    Reference,
    reference_from_network,
)
from vitedge.bench.run import BenchOptions, Step, run_bench
from vitedge.bench.workers.messages import Probed
from vitedge.converters.generic.model import GenericModel, open_generic
from vitedge.errors import DataError, ModelError, NotAViTError, UsageError
from vitedge.files.staging import write_whole
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.readable_images import warn_of_images
from vitedge.importers import ImportOptions, read_model
from vitedge.network.network import Network
from vitedge.report import render_html
from vitedge.report.csv_table import render_csv
from vitedge.report.markdown_table import render_markdown
from vitedge.report.results import Report
from vitedge.runtimes import targets
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

# A driver that has not said within this time whether it is here is not.
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """A person's request to the bench.

    Attributes:
        artifacts: Files and folders; empty means the current folder's artefacts, else the
            built-in digits model.
        targets: The targets that run them; empty means every target that is ready.
        data: Images for accuracy, or where they are; or None.
        reference: A model or a float32 artefact to compare logits with, or None.
        importing: The options for reading the reference.
        options: The options of the measurement.
        network: The network of the reference's file, if it was read already.
    """

    artifacts: tuple[Path, ...] = ()
    targets: tuple[Target, ...] = ()
    data: Path | ImageSet | None = None
    reference: Path | None = None
    importing: ImportOptions = field(default_factory=ImportOptions)
    options: BenchOptions = field(default_factory=BenchOptions)
    network: Network | None = None


def measure(
    request: Request,
    *,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda words: None,
) -> Report:
    """Runs the bench that was asked for.

    Args:
        request: The request.
        progress: Told how far things are.
        warn: Told what is left out of the images.

    Raises:
        UsageError: A file is not an artefact, or no target reads any.
        ModelError: A file is missing or cannot be read.
        DataError: The images cannot be used, or their classes are not the model's.
    """
    found = resolve(request)
    if found.data is not None:
        warn_of_images(found.data, warn)
        warn_of_overlaps(request, found, warn)
    return run_bench(
        found.artifacts,
        request.targets,
        data=found.data,
        reference=found.reference,
        options=request.options,
        on_step=step_shower(progress),
    )


@dataclass(frozen=True)
class Resolved:
    """The files that a request stands for, opened.

    Attributes:
        artifacts: The artefacts.
        data: The images, or None.
        reference: The model to compare with, or None.
    """

    artifacts: tuple[Path, ...]
    data: ImageSet | None
    reference: Reference | None


def resolve(request: Request) -> Resolved:
    """Finds and opens what a request names; see ``measure`` for the errors."""
    artifacts = find_artifacts(request.artifacts)
    if artifacts:
        class_names = _class_names(artifacts)
        data = None if request.data is None else open_images(request.data, class_names)
        if data is not None and not class_names and _name_classes(artifacts):
            refuse_named_classes(data)
    else:
        artifacts, data = builtin.artifacts(), builtin.images()
    reference = None
    if request.reference is not None:
        reference = open_reference(request.reference, request.importing, request.network)
    return Resolved(artifacts, data, reference)


def warn_of_overlaps(request: Request, found: Resolved, warn: Callable[[str], None]) -> None:
    """Says which of the images the artefacts or their models have seen, as far as is recorded."""
    if found.data is None:
        return
    known = {_source_of(path) for path in builtin.artifacts()}
    # Of the built-in model, and of copies of its artefacts, it is known.
    artifacts = [path for path in found.artifacts if _source_of(path) not in known]
    places = [*artifacts, *([] if request.reference is None else [request.reference])]
    for words in overlaps(artifacts, found.data, [*(path.parent for path in places), Path()]):
        warn(words)


def _source_of(path: Path) -> str:
    """Digest of the model that an artefact was made of, or its own name where it does not say."""
    try:
        metadata = read_metadata(path)
    except ModelError:  # the bench gives it a row that says so
        return str(path)
    return str(path) if metadata is None else metadata.source.sha256


def step_shower(progress: Progress) -> Callable[[Step], None]:
    """Tells a progress callback about the bench's steps."""

    def show(step: Step) -> None:
        row = f"{step.row}/{step.rows} " if step.row else ""
        progress(f"{row}{step.doing}", step.done or 0, step.total or 0)

    return show


def find_artifacts(given: tuple[Path, ...]) -> tuple[Path, ...]:
    """The artefacts that files and folders stand for; none given means the current folder.

    Raises:
        UsageError: A file is not an artefact.
        ModelError: A path is missing, or a folder holds no artefact.
    """
    found: list[Path] = []
    for path in given or (Path(),):
        if not path.exists():
            raise ModelError(f"there is no artefact '{path}'")
        if not path.is_dir():
            format_of(path)
            found.append(path)
            continue
        suffixes = {known.suffix for known in all_formats()}
        inside = [
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in suffixes and file.is_file()
        ]
        if not inside and given:
            raise ModelError(f"there is no artefact in '{path}'")
        found += inside
    return tuple(found)


def open_reference(
    path: Path, importing: ImportOptions | None = None, network: Network | None = None
) -> Reference:
    """A model, or an artefact on its format's CPU target, to compare logits with.

    Args:
        path: The file.
        importing: The options for reading it.
        network: The network in the file, if it was read already.
    """
    if path.suffix in {known.suffix for known in all_formats()}:
        metadata = read_metadata(path)
        if metadata is None:
            raise UsageError(
                f"'{path}' does not say how images are prepared, as vitedge did not write it: give "
                "the float32 file that vitedge convert --fp32 makes of it"
            )
        if metadata.precision is not Precision.FP32:
            raise UsageError(f"'{path}' is {metadata.precision}; a reference must be float32")
        return ArtifactReference(path, metadata.format.default_target)
    importing = importing or ImportOptions()
    try:
        network = network or read_model(path, importing).network
    except NotAViTError:
        return generic_reference(open_generic(path, importing), path, importing)
    return reference_from_network(network, path.name)


def generic_reference(model: GenericModel, path: Path, importing: ImportOptions) -> ModelReference:
    """A model that is not read, in its own engine, to compare logits with."""
    digest = f"{sha256_of(path)} {importing}"
    return ModelReference(
        path.name, model.preprocessing, model.outputs, model.labels, digest, model.task
    )


def refuse_named_classes(data: ImageSet) -> None:
    """Names say nothing about the classes of a model that has none; indices do.

    Raises:
        DataError: The set names its classes.
    """
    indices = tuple(str(index) for index in range(len(data.class_names)))
    if data.class_names != indices:
        raise DataError(
            f"'{data.name}' names its classes ('{data.class_names[0]}', ...), but the artefacts "
            "have no labels to match; convert with --labels, or label the images by class index"
        )


def _class_names(artifacts: tuple[Path, ...]) -> tuple[str, ...]:
    """Class names by which labelled data is matched: those of the first artefact that has any."""
    for path in artifacts:
        try:
            metadata = read_metadata(path)
        except ModelError:  # the bench gives it a row that says so
            continue
        # Other tasks name numbers, and one name says nothing of no.
        if metadata and metadata.task.has_logits and len(metadata.labels) > 1:
            return metadata.labels
    return ()


def _name_classes(artifacts: tuple[Path, ...]) -> bool:
    """Whether some artefact gives logits, which labels of images are held against."""
    for path in artifacts:
        try:
            metadata = read_metadata(path)
        except ModelError:
            continue
        if metadata is None or metadata.task.has_logits:
            return True
    return False


def probe_targets() -> dict[Target, Probed]:
    """Whether each target can run here, as other processes than this one find."""
    return probe_all(targets(), _PROBE_SECONDS)


def write_reports(report: Report, files: Mapping[str, Path | None]) -> None:
    """Writes a report as ``json``, ``csv``, ``markdown`` and ``html``, where a path is given.

    Raises:
        VitedgeError: The disk refuses.
    """
    renderers: dict[str, Callable[[], str]] = {
        "json": report.to_json,
        "csv": lambda: render_csv(report),
        "markdown": lambda: render_markdown(report),
        "html": lambda: render_html(report),
    }
    for kind, path in files.items():
        if path is not None:
            write_whole(path, renderers[kind]())


def selected(images: ImageSet, most: int) -> ImageSet:
    """The first images of a set."""
    return ImageSet(images.name, images.samples[:most], images.class_names)
