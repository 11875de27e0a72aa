"""From a model to artefacts: read, rewrite, quantize, emit, check, publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vitedge.artifacts.metadata import Metadata, Parity, Source, files_of
from vitedge.converters.converter import Draft
from vitedge.converters.tools import Variant, converter_for, tools_of
from vitedge.errors import NotAViTError, UsageError, missing_package
from vitedge.files.folder_lock import only_writer
from vitedge.files.keras_archives import save_packed
from vitedge.files.staging import publish, refuse_existing, staging
from vitedge.images.image_sets import ImageSet
from vitedge.importers import Imported, ImportOptions
from vitedge.network.network import Network
from vitedge.network.summary import summary
from vitedge.pipeline.budget import DropBudget, KeptInFloat, Outputs, fewest_lifted
from vitedge.pipeline.compared_images import COMPARED_IMAGES, ImagesInUse, divide
from vitedge.pipeline.generic import GenericJob, convert_generically
from vitedge.pipeline.layouts import LAYOUTS, demand_classes
from vitedge.pipeline.open_model import OpenModel, Prepared, Rewriting
from vitedge.pipeline.probabilities import demand_logits, probabilities, with_probabilities
from vitedge.pipeline.source_check import read_compared
from vitedge.pipeline.token_merging import finds_alike
from vitedge.pipeline.tuning import USUAL, Tuned, fastest, variants
from vitedge.pipeline.verified_write import (
    OnRefusal,
    Reference,
    Written,
    artifact_path,
    check_parity,
    refusals_to,
    versions_of,
    write_checked,
)
from vitedge.quantize.cores import forward_each
from vitedge.quantize.recipe import Quantized
from vitedge.quantize.sensitivity import rank_layers
from vitedge.rewrite import apply_more
from vitedge.rewrite.further_outputs import check_names
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores
from vitedge.terminal.progress import Progress, silent
from vitedge.terminal.silence import quiet

_folders_in_turn: ContextVar[tuple[Path, ...]] = ContextVar("folders_in_turn", default=())


@dataclass(frozen=True)
class ConvertOptions:
    """What to make of a model.

    Attributes:
        formats: Formats to write.
        precisions: Precisions to write in each.
        output: Folder for the artefacts.
        batch: Static batch size.
        without: Names of rewrites to leave out.
        extra: Names of rewrites to apply although they are not default.
        budget: What integer artefacts may lose; layers are lifted out of 8 bits until they keep it.
        tune: Time several graphs of each artefact here, and keep the fastest.
        tokens: Share of the multiply-accumulates that merging of tokens leaves; None merges none.
        features: Give the artefacts what the head reads as a second output.
        also: Further outputs by name; see ``rewrite.further_outputs``.
        probabilities: Let the artefacts give the softmax of their logits.
        layout: The folder that ``output`` becomes; None writes artefacts alone, whose names say
            format and precision.
        force: Existing artefacts may be overwritten.
        importing: How to read the model.
        compared: Images to compare the artefacts with the model on, other than those calibrated
            on. None means those of the budget, or some that are kept out of the calibration.
    """

    formats: tuple[Format, ...] = field(default_factory=all_formats)
    precisions: tuple[Precision, ...] = (Precision.INT8,)
    output: Path = field(default_factory=Path)
    batch: int = 1
    without: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    budget: DropBudget | None = None
    tune: bool = False
    tokens: float | None = None
    features: bool = False
    also: tuple[str, ...] = ()
    probabilities: bool = False
    layout: Layout | None = None
    force: bool = False
    importing: ImportOptions = field(default_factory=ImportOptions)
    compared: ImageSet | None = None


def convert(
    source: Path,
    options: ConvertOptions,
    *,
    calibration: ImageSet | None = None,
    progress: Progress = silent,
    on_refusal: OnRefusal | None = None,
    opened: OpenModel | None = None,
) -> tuple[Written, ...]:
    """Converts a model to every format and precision asked for.

    Each artefact is loaded in its own runtime after it was written, and its logits are compared
    with the float32 reference; one that fails is not published, and nothing after it is made.

    Args:
        source: Any model that an importer reads.
        options: What to make of it.
        calibration: Images to measure activation ranges on; None means synthetic ones.
        progress: Told how far things are.
        on_refusal: Told of each artefact that cannot be made; the others are made all the same.
            Without it such an artefact is an error.
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
        if opened is None:
            images = images_in_use(options, calibration)
            opened = OpenModel(source, options.importing, images=images, progress=progress)
        return _convert(opened, options, progress, on_refusal)


@contextmanager
def in_turn(folder: Path, progress: Progress) -> Iterator[None]:
    """Waits until no other process writes artefacts into a folder, and keeps others waiting.

    Two at once would each see that nothing is there yet, or leave an artefact of either. Inside
    the block, the same folder may be asked for again.
    """
    place = folder.resolve()
    if place in _folders_in_turn.get():
        yield
        return

    def waiting() -> None:
        progress(f"waiting for another process that writes into {folder}", 0, 0)

    with only_writer(folder, wait=True, on_wait=waiting):
        before = _folders_in_turn.set((*_folders_in_turn.get(), place))
        try:
            yield
        finally:
            _folders_in_turn.reset(before)


def _convert(
    opened: OpenModel,
    options: ConvertOptions,
    progress: Progress,
    on_refusal: OnRefusal | None,
) -> tuple[Written, ...]:
    source = opened.source
    jobs: dict[Path, tuple[Format, Precision]] = {}
    for precision in options.precisions:
        for target in options.formats:
            path = _path(source, options, precision, target)
            with refusals_to(on_refusal, path):
                converter_for(target, precision)  # refuse before any work is done
                jobs[path] = target, precision
    check_names(options.also)
    planned = [part for path in jobs for part in files_of(path)]
    if options.layout is not None:
        laid = LAYOUTS[options.layout]
        laid.demand_fit(probabilities=options.probabilities, batch=options.batch)
        planned += [options.output / name for name in laid.beside]
    refuse_existing(planned, force=options.force)
    progress("reading the model", 0, 1)
    try:
        imported = opened.imported
    except NotAViTError as why:
        if options.features or options.also:
            raise NotAViTError(
                f"'{source}' is no Vision Transformer, so nobody knows its features: {why}; leave "
                "out --features and --also"
            ) from why
        if options.probabilities:
            raise NotAViTError(
                f"'{source}' is no Vision Transformer, and what others give stays as it is: {why}; "
                "leave out --probabilities"
            ) from why
        if options.tokens is not None:
            raise NotAViTError(
                f"'{source}' is no Vision Transformer, so it has no tokens to merge: {why}; leave "
                "out --tokens"
            ) from why
        if options.budget is not None or options.tune:
            raise NotAViTError(
                f"'{source}' is no Vision Transformer, and of others neither layers nor graphs are "
                f"chosen: {why}; leave out --max-drop and --tune"
            ) from why
        layout = None if options.layout is None else LAYOUTS[options.layout]
        job = GenericJob(opened, why, jobs, layout, options.batch, options.without)
        made = convert_generically(job, progress=progress, on_refusal=on_refusal)
        if layout is not None and made:
            layout.describe(options.output, made, None)
        return made
    if options.layout is not None:
        demand_classes(options.layout, imported.network.task)
    work = _Work(opened, options, progress)
    del opened, imported  # gigabytes, now that there is a rewritten model
    written = []
    for number, (path, (target, precision)) in enumerate(jobs.items()):
        progress(f"writing {path.name}", number, len(jobs))
        with refusals_to(on_refusal, path):
            written.append(work.write(path, target, precision))
    if options.layout is not None and written:
        LAYOUTS[options.layout].describe(options.output, written, work.model)
    progress("done", len(jobs), len(jobs))
    return tuple(written)


def images_in_use(options: ConvertOptions, calibration: ImageSet | None) -> ImagesInUse:
    """What is calibrated on and what is compared on."""
    others = options.compared or (None if options.budget is None else options.budget.images)
    return divide(calibration, others)


def _path(source: Path, options: ConvertOptions, precision: Precision, target: Format) -> Path:
    """Where an artefact goes.

    Raises:
        UsageError: The layout has no place for it.
    """
    if options.layout is None:
        return artifact_path(options.output, source, precision, target)
    laid = LAYOUTS[options.layout]
    if target is not laid.format:
        raise UsageError(f"--layout {options.layout} holds {laid.format} files, not {target}")
    if precision not in laid.files:
        takes = ", ".join(laid.files)
        raise UsageError(f"--layout {options.layout} has no {precision}; it takes {takes}")
    return options.output / laid.files[precision]


def import_model(
    source: Path,
    output: Path | None,
    options: ImportOptions,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Reads a model and writes it as one of our Keras models.

    Args:
        source: Any model that an importer reads.
        output: The ``.keras`` file to write; None only reads.
        options: What the source does not say itself.
        force: An existing output may be overwritten.
        progress: Told how far things are.

    Raises:
        UsageError: The output exists, or is no ``.keras`` file.
        ModelError: The source cannot be read.
        ParityError: What was read, or the Keras model made of it, computes something else.
        UnavailableError: Keras is not installed.
    """
    if output is not None:
        if output.suffix != ".keras":
            raise UsageError(f"'{output}' must end in .keras")
        refuse_existing([output], force=force)
    progress("reading the model", 0, 2)
    try:
        imported = read_compared(source, options)
    except NotAViTError as error:
        way = "" if source.suffix == ".safetensors" else "; `vitedge convert` takes it as it is"
        raise NotAViTError(f"'{source}' is no Vision Transformer: {error}{way}") from error
    if output is not None:
        progress(f"writing {output.name}", 1, 2)
        origin = imported.path if imported.origin is None else imported.origin
        write_keras(imported.network, output, origin=origin)
    return imported


def write_keras(network: Network, output: Path, *, origin: str = "") -> None:
    """Writes a network as a Keras model, after proving that the model computes the same.

    Args:
        network: The model.
        output: The ``.keras`` file.
        origin: How it was imported, in words.

    Raises:
        ParityError: It does not.
        UnavailableError: Keras is not installed.
    """
    try:
        with quiet():
            from vitedge.in_keras.model import main_output, to_keras

            model = to_keras(network, origin=origin)
    except ImportError as error:
        raise missing_package(error.name or "keras", "convert") from error
    shape = (2, *network.image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    made = main_output(network, model(noise.astype(np.float32)))
    parity = Parity.of(made, forward_each(network, noise), network.task)
    check_parity(parity, Precision.FP32, output.name)
    with staging(output.parent) as folder:
        save_packed(model, folder / output.name)
        publish([folder / output.name], output.parent)


class _Work:
    """What all artefacts of a model share: rewritten networks, their statistics, the reference."""

    def __init__(self, opened: OpenModel, options: ConvertOptions, progress: Progress) -> None:
        imported, images = opened.imported, opened.images
        self._options, self._progress = options, progress
        self._preprocessing, self._labels = imported.network.preprocessing, imported.network.labels
        self._parameters = imported.network.parameters
        self.model = summary(imported.network)
        network, self._merging = imported.network, None
        if options.tokens is not None:
            progress("merging tokens", 0, 1)
            merged = opened.merged(options.tokens)
            network, self._merging = merged.network, merged.described
        rewriting = Rewriting(options.without, options.extra, options.features, options.also)
        self._prepared: dict[tuple[str, ...], Prepared] = {(): opened.prepared(network, rewriting)}
        self._source = Source(opened.source.name, opened.sha256, imported.path)
        compared = images.compared or self._prepare().quantizations.images
        samples = compared.samples[:COMPARED_IMAGES]
        pixels = self._preprocessing.batch([sample.image for sample in samples])
        outputs = opened.outputs(network, pixels)
        self._task, self._scores = imported.network.task, Scores.LOGITS
        if options.probabilities:
            demand_logits(self._task)
            outputs, self._scores = probabilities(self._task, outputs), Scores.PROBABILITIES
        self._reference = Reference(pixels, outputs, images.words, chooses=finds_alike(network))

    def write(self, path: Path, target: Format, precision: Precision) -> Written:
        """Emits one artefact, checks it and publishes it."""
        lifted: tuple[str, ...] = ()
        words: dict[str, str] = {}
        budget = self._options.budget
        if budget is not None and not precision.is_float:
            lifted, lost = self._lifted(budget, path.name, target, precision)
            words["budget"] = (
                f"{lost:.2f} points lost of {budget.max_drop:g}, on {len(budget.images.samples)} "
                f"images; lifted: {', '.join(lifted) or 'nothing'}"
            )
        tuned = None
        if self._options.tune:
            tuned = self._tuned(path.name, target, precision, lifted)
        variant = USUAL if tuned is None else tuned.variant
        draft, metadata = self._draft(target, precision, lifted, variant)
        if tuned is not None:
            words["tuned"] = tuned.words
        metadata = replace(metadata, quantization={**metadata.quantization, **words})
        written = write_checked(draft, path, metadata, self._reference)
        return replace(written, lost=words.get("budget", ""))

    def _prepare(self, extra: tuple[str, ...] = ()) -> Prepared:
        """The network under the rewrites that were asked for and some more."""
        if extra not in self._prepared:
            self._prepared[extra] = self._prepared_more(extra)
        return self._prepared[extra]

    def _prepared_more(self, extra: tuple[str, ...]) -> Prepared:
        first = self._prepare()
        network, names = apply_more(first.network, extra, self._options.without)
        return Prepared(network, (*first.rewrites, *names), first.quantizations)

    def _tuned(
        self, name: str, target: Format, precision: Precision, lifted: Sequence[str]
    ) -> Tuned | None:
        candidates = variants(target, precision)
        if len(candidates) == 1:
            return None
        drafts = []
        for number, variant in enumerate(candidates):
            self._progress(f"timing {name}: {variant.name}", number, len(candidates))
            drafts.append((variant, *self._draft(target, precision, lifted, variant)))
        return fastest(drafts, self._reference)

    def _draft(
        self,
        target: Format,
        precision: Precision,
        lifted: Sequence[str] = (),
        variant: Variant = USUAL,
    ) -> tuple[Draft, Metadata]:
        converter = converter_for(target, precision)
        extra = variant.extra
        if extra is None:
            extra = () if precision.all_integer else converter.rewrites
        prepared = self._prepare(extra)
        made = prepared.quantizations.make(
            target, precision, lifted, variant.activations, prepared.network
        )
        network, recipe = made.network, made.recipe
        if self._options.probabilities:
            network, recipe = with_probabilities(network, recipe)
        draft = converter.convert(network, recipe, batch=self._options.batch)
        if self._options.layout is not None:
            draft = LAYOUTS[self._options.layout].adapted(draft)
        return draft, self._metadata(target, precision, made, prepared)

    def _lifted(
        self, budget: DropBudget, name: str, target: Format, precision: Precision
    ) -> KeptInFloat:
        """The layers that have to stay out of integers, as measured."""
        measured = Outputs(budget, self._preprocessing, target)
        self._progress(f"measuring {name}", 0, 1)
        floats = measured.of(*self._draft(target, Precision.FP32))

        def drop(layers: Sequence[str]) -> float:
            self._progress(f"measuring {name} with {len(layers)} layers lifted", 0, 1)
            found = measured.of(*self._draft(target, precision, layers))
            return measured.drop(floats, found, self._task, self._scores.middle)

        def rank() -> list[str]:
            self._progress(f"ranking the layers of {name}", 0, 1)
            quantizations = self._prepare().quantizations  # no rewrite changes the ranking
            made = quantizations.make(target, precision)
            activations = quantizations.activations(target, precision)
            ranked = rank_layers(made, self._reference.pixels, activations=activations)
            return [each.layer for each in ranked]

        return fewest_lifted(rank, drop, budget.max_drop, name)

    def _metadata(
        self, target: Format, precision: Precision, made: Quantized, prepared: Prepared
    ) -> Metadata:
        return Metadata(
            format=target,
            precision=precision,
            labels=self._labels,
            preprocessing=self._preprocessing,
            source=self._source,
            rewrites=tuple(dict.fromkeys((*prepared.rewrites, *made.moves))),
            quantization=dict(made.recipe.description),
            calibration=prepared.quantizations.calibration if made.recipe.weights else None,
            versions=versions_of([tools_of(target).package]),
            parameters=self._parameters,
            macs=prepared.network.macs,
            scores=self._scores,
            merging=self._merging,
            task=self._task,
        )
