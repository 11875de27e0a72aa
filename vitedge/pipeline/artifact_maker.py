"""Makes artefacts of an open model, one by one: rewrite, quantize, emit, check, publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitedge.artifacts.metadata import FLOAT_FOR_RUNTIME, Metadata, Source
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft, refuse_further_outputs
from vitedge.converters.tools import Variant, converter_for, tools_of
from vitedge.errors import ParityError
from vitedge.network.summary import summary
from vitedge.pipeline.budget import DropBudget, KeptInFloat, Outputs, fewest_lifted
from vitedge.pipeline.compared_images import COMPARED_IMAGES
from vitedge.pipeline.layouts import LAYOUTS
from vitedge.pipeline.open_model import OpenModel, Prepared, Rewriting
from vitedge.pipeline.options import ConvertOptions
from vitedge.pipeline.probabilities import demand_logits, probabilities, with_probabilities
from vitedge.pipeline.tail import tail_of, with_tail
from vitedge.pipeline.token_merging import finds_alike
from vitedge.pipeline.token_search import Proved
from vitedge.pipeline.tuning import USUAL, Tuned, fastest, variants
from vitedge.pipeline.verified_write import Reference, sqnr_db, versions_of, write_checked
from vitedge.quantize.float_layers import FLOOR_DB
from vitedge.quantize.halving import fewest
from vitedge.quantize.recipe import Quantized
from vitedge.quantize.sensitivity import rank_layers
from vitedge.rewrite import apply_more
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores
from vitedge.terminal.progress import Progress


class ArtifactMaker:
    """Makes artefacts, which share rewritten networks, their statistics and the reference.

    Args:
        opened: The model; it is not kept.
        options: The artefacts to make.
        progress: Told how far things are.

    Raises:
        NotAViTError: The model is not a vision transformer.
        UsageError: The model gives nothing that there are probabilities of.
    """

    def __init__(self, opened: OpenModel, options: ConvertOptions, progress: Progress) -> None:
        imported, images = opened.imported, opened.images
        self._options, self._progress = options, progress
        self.preprocessing, self._labels = imported.network.preprocessing, imported.network.labels
        self._parameters = imported.network.parameters
        self.model = summary(imported.network)
        network, self.merging, also = imported.network, None, options.also
        self.narrowing = None
        if options.width is not None:
            narrowed = opened.narrowed(options.width)
            network, self.narrowing = narrowed.network, narrowed.described
        if options.tokens is not None:
            progress("merging tokens", 0, 1)
            merged = opened.merged(network, options.tokens, also)
            network, self.merging, also = merged.network, merged.described, ()
        rewriting = Rewriting(options.without, options.extra, options.features, also)
        self._prepared: dict[tuple[str, ...], Prepared] = {(): opened.prepared(network, rewriting)}
        self._tail = None
        if options.tail:
            self._tail = tail_of(opened.source, opened.importing, imported.network)
        self._source = Source(opened.source.name, opened.sha256, imported.path)
        compared = images.compared or self._prepare().quantizations.images
        samples = compared.samples[:COMPARED_IMAGES]
        pixels = self.preprocessing.batch([sample.image for sample in samples])
        outputs = opened.outputs(network, pixels)
        self.task, self.scores = imported.network.task, Scores.LOGITS
        if options.probabilities:
            demand_logits(self.task)
            outputs, self.scores = probabilities(self.task, outputs), Scores.PROBABILITIES
        self._reference = Reference(pixels, outputs, images.words, chooses=finds_alike(network))

    def write(
        self, path: Path, target: Format, precision: Precision, proved: Proved | None = None
    ) -> Written:
        """Emits one artefact, checks it and publishes it.

        Args:
            path: The path of the artefact.
            target: Its format.
            precision: Its precision.
            proved: The loss against its budget, if that was measured already.
        """
        lifted: tuple[str, ...] = ()
        words = {} if proved is None else {"budget": proved.budget}
        budget = self._options.budget
        if budget is not None and not precision.is_float and proved is None:
            lifted, lost = self._lifted(budget, path.name, target, precision)
            words["budget"] = (
                f"{lost:.2f} points lost of {budget.max_drop:g}, on {len(budget.images.samples)} "
                f"images; lifted: {', '.join(lifted) or 'nothing'}"
            )
        variant = USUAL
        if self._options.tune:
            tuned = self._tuned(path.name, target, precision, lifted)
            if tuned is not None:
                variant, words["tuned"] = tuned.variant, tuned.words

        def write_with(lifted: Sequence[str]) -> Written:
            draft, metadata = self.draft(target, precision, lifted, variant)
            metadata = replace(metadata, quantization={**metadata.quantization, **words})
            if proved is not None:
                metadata = replace(metadata, merging=proved.merging)
            written = write_checked(draft, path, metadata, self._reference)
            return replace(written, lost=words.get("budget", ""))

        try:
            return write_with(lifted)
        except ParityError:
            if precision is not Precision.INT8 or budget is not None:
                raise
            lifted = self._lifted_to_floor(path.name, target, precision, variant)
            if not lifted:
                raise
            words[FLOAT_FOR_RUNTIME] = ", ".join(lifted)
            return write_with(lifted)

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
            drafts.append((variant, *self.draft(target, precision, lifted, variant)))
        return fastest(drafts, self._reference)

    def draft(
        self,
        target: Format,
        precision: Precision,
        lifted: Sequence[str] = (),
        variant: Variant = USUAL,
    ) -> tuple[Draft, Metadata]:
        """An artefact before it is written, and what it will say of itself.

        Args:
            target: Its format.
            precision: Its precision.
            lifted: Layers that stay out of integers.
            variant: The graph to make.
        """
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
        if self._tail is None:
            refuse_further_outputs(network, recipe)
        draft = converter.convert(network, recipe, batch=self._options.batch)
        if self._tail is not None:
            draft = with_tail(draft, target, self._tail)
        if self._options.layout is not None:
            draft = LAYOUTS[self._options.layout].adapted(draft)
        return draft, self._metadata(target, precision, made, prepared)

    def _lifted(
        self, budget: DropBudget, name: str, target: Format, precision: Precision
    ) -> KeptInFloat:
        """The layers that have to stay out of integers, as measured."""
        measured = Outputs(budget, self.preprocessing, target)
        self._progress(f"measuring {name}", 0, 1)
        floats = measured.of(*self.draft(target, Precision.FP32))

        def drop(layers: Sequence[str]) -> float:
            self._progress(f"measuring {name} with {len(layers)} layers lifted", 0, 1)
            found = measured.of(*self.draft(target, precision, layers))
            return measured.drop(floats, found, self.task, self.scores.middle)

        def rank() -> list[str]:
            return self._ranked(name, target, precision)

        return fewest_lifted(rank, drop, budget.max_drop, name)

    def _lifted_to_floor(
        self, name: str, target: Format, precision: Precision, variant: Variant
    ) -> tuple[str, ...]:
        """The layers that have to stay out of integers for ``FLOOR_DB`` in the runtime.

        The search before simulates a runtime. Where the runtime computes more coarsely, artefacts
        themselves are measured. No layer if even all are not enough.
        """
        ranking = self._ranked(name, target, precision)
        has_integers = {}

        def is_enough(count: int) -> bool:
            self._progress(f"measuring {name} with {count} layers lifted", 0, 1)
            draft, metadata = self.draft(target, precision, ranking[:count], variant)
            has_integers[count] = metadata.calibration is not None
            return sqnr_db(draft, metadata, self._reference) >= FLOOR_DB

        if not ranking or not is_enough(len(ranking)):
            return ()
        count = fewest(len(ranking), is_enough)
        return tuple(ranking[:count]) if has_integers[count] else ()  # nor is a float file int8

    def _ranked(self, name: str, target: Format, precision: Precision) -> list[str]:
        """The layers that can stay out of integers, the costliest first."""
        self._progress(f"ranking the layers of {name}", 0, 1)
        quantizations = self._prepare().quantizations  # no rewrite changes the ranking
        made = quantizations.make(target, precision)
        activations = quantizations.activations(target, precision)
        ranked = rank_layers(made, self._reference.pixels, activations=activations)
        return [each.layer for each in ranked]

    def _metadata(
        self, target: Format, precision: Precision, made: Quantized, prepared: Prepared
    ) -> Metadata:
        return Metadata(
            format=target,
            precision=precision,
            labels=self._labels,
            preprocessing=self.preprocessing,
            source=self._source,
            rewrites=tuple(dict.fromkeys((*prepared.rewrites, *made.moves))),
            quantization=dict(made.recipe.description),
            calibration=prepared.quantizations.calibration if made.recipe.weights else None,
            versions=versions_of([tools_of(target).package]),
            parameters=self._parameters,
            macs=prepared.network.macs,
            scores=self.scores,
            merging=self.merging,
            narrowing=self.narrowing,
            task=self.task,
        )
