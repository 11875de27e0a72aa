"""Makes artefacts of a model that is not a vision transformer: draft, check, publish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vitedge.artifacts.metadata import Metadata, Source
from vitedge.artifacts.written import Written
from vitedge.converters.generic.candidate import Alternative, CalibrationImages
from vitedge.converters.tools import tools_of
from vitedge.errors import ConversionError, DataError, NotAViTError, ParityError, UsageError
from vitedge.files.staging import staging
from vitedge.images.synthetic import synthetic_images
from vitedge.pipeline.compared_images import COMPARED_IMAGES
from vitedge.pipeline.layouts import FolderLayout
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.verified_write import (
    OnRefusal,
    OnWritten,
    Reference,
    publish_artifact,
    refusals_to,
    unheard,
    versions_of,
    write_checked,
)
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent

_SYNTHETIC_IMAGES = 64


@dataclass(frozen=True)
class GenericJob:
    """The artefacts to make of a model that is not a vision transformer.

    Attributes:
        opened: The model.
        why: The reason why it is not one.
        artifacts: Format and precision of each artefact, by its path.
        layout: The folder that they go to, or None.
        batch: Static batch size.
        without: Rewrites that were to be left out; there are none here.
    """

    opened: OpenModel
    why: NotAViTError
    artifacts: Mapping[Path, tuple[Format, Precision]]
    layout: FolderLayout | None = None
    batch: int = 1
    without: tuple[str, ...] = ()


def convert_generically(
    job: GenericJob,
    *,
    progress: Progress = silent,
    on_refusal: OnRefusal | None = None,
    on_written: OnWritten = unheard,
) -> tuple[Written, ...]:
    """Converts a model with each format's own converter and quantizer.

    Args:
        job: The artefacts to make.
        progress: Told how far things are.
        on_refusal: Told of each artefact that cannot be made; the others are made nevertheless.
        on_written: Told of each artefact as soon as it is there.

    Raises:
        UsageError: Options speak of what only a vision transformer has.
        ModelError: The source cannot be read, or does not say what its outputs mean.
        DataError: A calibration image cannot be read, or there is none.
        ConversionError: A format's converter or quantizer refuses the model.
        ParityError: An artefact computes something else than the source.
    """
    source = job.opened.source
    if job.without:
        raise UsageError(
            f"'{source}' was not read as a vision transformer, so there is no rewrite "
            f"'{job.without[0]}' to leave out"
        )
    possible: dict[Path, tuple[Format, Precision]] = {}
    for path, (target, precision) in job.artifacts.items():
        with refusals_to(on_refusal, path):
            tools = tools_of(target)
            offered = () if tools.generic is None else tools.generic_precisions
            if precision not in offered:
                raise ConversionError(
                    f"'{source}' was not read as a vision transformer, "
                    f"and the {target} tools for other "
                    f"models have no {precision}; choose among {', '.join(offered) or 'nothing'}"
                )
            possible[path] = target, precision
    progress("no vision transformer: converting generically", 0, len(possible))
    work = _Work(job, progress)
    written = []
    for number, (path, (target, precision)) in enumerate(possible.items()):
        progress(f"writing {path.name}", number, len(possible))
        with refusals_to(on_refusal, path):
            try:
                written.append(work.write(path, target, precision))
                on_written(written[-1])
            except ParityError:
                raise
            except ConversionError as error:
                raise ConversionError(f"{error}; it was not lifted: {job.why}") from error
    progress("done", len(possible), len(possible))
    return tuple(written)


class _Work:
    """The state that all artefacts of one model share."""

    def __init__(self, job: GenericJob, progress: Progress) -> None:
        self._job, opened, in_use = job, job.opened, job.opened.images
        self._model = model = opened.generic
        if job.layout is not None:
            job.layout.demand_model(
                model.task, model.network.answer.shape_given, model.labels, model.preprocessing
            )
        images = in_use.calibration or synthetic_images(
            model.preprocessing, _SYNTHETIC_IMAGES, seed=0
        )
        if not images.samples:
            raise DataError(f"'{images.name}' holds no images to calibrate on")
        kind = "synthetic" if in_use.calibration is None else "images"
        self._images = CalibrationImages(images, kind, model.preprocessing, progress)
        compared = (in_use.compared or images).samples[:COMPARED_IMAGES]
        pixels = model.preprocessing.batch([sample.image for sample in compared])
        self._reference = Reference(pixels, model.outputs(pixels), in_use.words)
        path = f"generic: {job.why}; {model.words}"
        self._source = Source(opened.source.name, opened.sha256, path)

    def write(self, path: Path, target: Format, precision: Precision) -> Written:
        """Writes the best candidate that computes what the source does.

        Of a model with attention that is the nearest to the source. Of others it is the first:
        convolutions that stay in float would be nearer, and slow.
        """
        drafts = tools_of(target).generic
        assert drafts is not None
        best: Written | None = None
        failure: ParityError | None = None
        with staging(path.parent) as folder:
            candidates = drafts(self._model, precision, self._job.batch, self._images)
            for number, candidate in enumerate(candidates):
                metadata = self._metadata(target, precision, candidate)
                layout = self._job.layout
                draft = candidate.draft if layout is None else layout.adapted(candidate.draft)
                place = folder / str(number)
                place.mkdir()
                try:
                    made = write_checked(draft, place / path.name, metadata, self._reference)
                except ParityError as error:
                    failure = failure or error
                    continue
                best = made if best is None or _sqnr(made) > _sqnr(best) else best
                if not self._model.attends:
                    break
            if best is None:
                assert failure is not None
                raise failure
            publish_artifact(best.path, path.parent)
        return replace(best, path=path)

    def _metadata(self, target: Format, precision: Precision, candidate: Alternative) -> Metadata:
        return Metadata(
            format=target,
            precision=precision,
            labels=self._model.labels,
            preprocessing=self._model.preprocessing,
            source=self._source,
            quantization=dict(candidate.description),
            calibration=self._images.record() if candidate.calibrated else None,
            versions=versions_of(candidate.versions),
            parameters=self._model.network.parameters,
            task=self._model.task,
        )


def _sqnr(written: Written) -> float:
    parity = written.metadata.parity
    return math.inf if parity is None or parity.sqnr_db is None else parity.sqnr_db
