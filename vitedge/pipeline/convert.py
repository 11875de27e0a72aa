"""Makes artefacts of a model: read, rewrite, quantize, emit, check, publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from vitedge.artifacts.metadata import files_of
from vitedge.artifacts.written import Written
from vitedge.converters.tools import converter_for
from vitedge.errors import NotAViTError, UsageError
from vitedge.files.staging import refuse_existing
from vitedge.images.image_sets import ImageSet
from vitedge.pipeline.artifact_maker import ArtifactMaker
from vitedge.pipeline.compared_images import ImagesInUse, divide
from vitedge.pipeline.folder_turn import in_turn
from vitedge.pipeline.generic import GenericJob, convert_generically
from vitedge.pipeline.layouts import LAYOUTS
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.options import ConvertOptions
from vitedge.pipeline.searching_maker import SearchingMaker
from vitedge.pipeline.verified_write import (
    OnRefusal,
    OnWritten,
    artifact_path,
    refusals_to,
    unheard,
)
from vitedge.rewrite.further_outputs import check_names
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent

__all__ = ["ConvertOptions", "convert", "images_in_use"]

_Jobs: TypeAlias = Mapping[Path, tuple[Format, Precision]]
"""Format and precision of each artefact that is to be made."""


def convert(
    source: Path,
    options: ConvertOptions,
    *,
    calibration: ImageSet | None = None,
    progress: Progress = silent,
    on_refusal: OnRefusal | None = None,
    on_written: OnWritten = unheard,
    opened: OpenModel | None = None,
) -> tuple[Written, ...]:
    """Converts a model to every format and precision asked for.

    Each artefact is loaded in its own runtime after it was written, and its logits are compared
    with the float32 reference; one that fails is not published, and nothing after it is made.

    Args:
        source: Any model that an importer reads.
        options: The artefacts to make.
        calibration: Images to measure activation ranges on; None means synthetic ones.
        progress: Told how far things are.
        on_refusal: Told of each artefact that cannot be made; the others are made nevertheless.
            Without it such an artefact is an error.
        on_written: Told of each artefact as soon as it is there.
        opened: The source with the same calibration images, where it is open already.

    Raises:
        UsageError: An output exists, or a rewrite is unknown.
        ModelError: The source cannot be read.
        DataError: A calibration image cannot be read, or there is none.
        ConversionError: A format lacks a precision or cannot hold the model.
        ParityError: An artefact, or what was read by name, computes something else than the source.
        BudgetError: An artefact cannot keep the budget.
    """
    with in_turn(options.output, progress):
        if opened is not None:
            return _convert(opened, options, progress, on_refusal, on_written)
        images = images_in_use(options, calibration)
        importing = replace(options.importing, tail=options.tail)
        # Without a name here, so that `_convert` can let go of the model as it was read.
        return _convert(
            OpenModel(source, importing, images=images, progress=progress),
            options,
            progress,
            on_refusal,
            on_written,
        )


def images_in_use(options: ConvertOptions, calibration: ImageSet | None) -> ImagesInUse:
    """The images to calibrate on, and those to compare on."""
    others = options.compared or (None if options.budget is None else options.budget.images)
    return divide(calibration, others)


def _convert(
    opened: OpenModel,
    options: ConvertOptions,
    progress: Progress,
    on_refusal: OnRefusal | None,
    on_written: OnWritten,
) -> tuple[Written, ...]:
    jobs = _jobs(opened.source, options, on_refusal)
    check_names(options.also)
    _refuse_outputs(jobs, options)
    progress("reading the model", 0, 1)
    try:
        imported = opened.imported
    except NotAViTError as why:
        _demand_nothing_of_a_vit(opened.source, options, why)
        layout = None if options.layout is None else LAYOUTS[options.layout]
        job = GenericJob(opened, why, jobs, layout, options.batch, options.without)
        made = convert_generically(
            job, progress=progress, on_refusal=on_refusal, on_written=on_written
        )
        if layout is not None and made:
            layout.describe(options.output, made, None)
        return made
    if options.layout is not None:
        network = imported.network
        LAYOUTS[options.layout].demand_model(
            network.task, network.main.shape, network.labels, network.preprocessing
        )
        del network
    make = ArtifactMaker if options.search is None else SearchingMaker
    maker = make(opened, options, progress)
    del opened, imported  # gigabytes, now that there is a rewritten model
    written = []
    for number, (path, (target, precision)) in enumerate(jobs.items()):
        progress(f"writing {path.name}", number, len(jobs))
        with refusals_to(on_refusal, path):
            written.append(maker.write(path, target, precision))
            on_written(written[-1])
    if options.layout is not None and written:
        LAYOUTS[options.layout].describe(options.output, written, maker.model)
    progress("done", len(jobs), len(jobs))
    return tuple(written)


def _jobs(source: Path, options: ConvertOptions, on_refusal: OnRefusal | None) -> _Jobs:
    """The artefacts to make; those that a format lacks are refused before any work is done."""
    jobs: dict[Path, tuple[Format, Precision]] = {}
    for precision in options.precisions:
        for target in options.formats:
            path = _path(source, options, precision, target)
            with refusals_to(on_refusal, path):
                converter_for(target, precision)
                jobs[path] = target, precision
    return jobs


def _refuse_outputs(jobs: _Jobs, options: ConvertOptions) -> None:
    """Refuses options that the layout cannot do with, and files that exist."""
    planned = [part for path in jobs for part in files_of(path)]
    if options.layout is not None and options.tail:
        raise UsageError("no client of a --layout reads another model's tail; leave out --tail")
    if options.layout is not None:
        laid = LAYOUTS[options.layout]
        laid.demand_fit(probabilities=options.probabilities, batch=options.batch)
        planned += [options.output / name for name in laid.beside]
    refuse_existing(planned, force=options.force)


def _demand_nothing_of_a_vit(source: Path, options: ConvertOptions, why: NotAViTError) -> None:
    """Refuses options that only a vision transformer can serve.

    Raises:
        NotAViTError: There is one.
    """
    if options.features or options.also:
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer, "
            f"so its features are unknown: {why}; leave "
            "out --features and --also"
        ) from why
    if options.importing.beside:
        names = ", ".join(f"'{name}'" for name in options.importing.beside)
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer, "
            "and of others only the main output is "
            f"converted, not {names}: {why}; leave out --beside"
        ) from why
    if options.tail:
        raise NotAViTError(
            f"'{source}' cannot be read whole, and where its trunk ends was not said: {why}"
        ) from why
    if options.probabilities:
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer, "
            "and --probabilities works for those only: "
            f"{why}; leave out --probabilities"
        ) from why
    if options.tokens is not None or options.search is not None:
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer, "
            f"so it has no tokens to merge: {why}; leave "
            "out --tokens"
        ) from why
    if options.width is not None:
        raise NotAViTError(
            f"'{source}' is not a Vision Transformer, and --width works for those only: {why}; "
            "leave out --width"
        ) from why
    if options.budget is not None or options.tune:
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer, "
            "and --max-drop and --tune work for those "
            f"only: {why}; leave out --max-drop and --tune"
        ) from why


def _path(source: Path, options: ConvertOptions, precision: Precision, target: Format) -> Path:
    """The path of an artefact.

    Raises:
        UsageError: The layout has no place for it.
    """
    if options.layout is None:
        return artifact_path(options.output, source, precision, target, options.name)
    laid = LAYOUTS[options.layout]
    if target is not laid.format:
        raise UsageError(f"--layout {options.layout} holds {laid.format} files, not {target}")
    if precision not in laid.files:
        takes = ", ".join(laid.files)
        raise UsageError(f"--layout {options.layout} has no {precision}; it takes {takes}")
    return options.output / laid.files[precision]
