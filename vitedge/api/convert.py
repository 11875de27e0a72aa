"""``vitedge.convert``: a model becomes artefacts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, each_of, import_options, one_of, several, targets_of
from vitedge.api.photos import photos_of
from vitedge.api.tokens import AUTO, MERGES, read_tokens, read_width
from vitedge.artifacts.metadata import Metadata, size_of
from vitedge.artifacts.narrowing import Narrowing
from vitedge.artifacts.token_merging import TokenMerging
from vitedge.artifacts.written import Written
from vitedge.errors import ConversionError, PrecisionError, UsageError
from vitedge.images.cifar import Part
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.in_memory import Images
from vitedge.images.readable_images import readable, warn_of_images
from vitedge.pick.overlap import refuse_overlap
from vitedge.pipeline import convert as pipeline
from vitedge.pipeline.budget import DropBudget
from vitedge.pipeline.for_targets import convert_for, precisions_for
from vitedge.pipeline.layouts import LAYOUTS
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import TokenSearch
from vitedge.pipeline.verified_write import OnWritten, unheard
from vitedge.report.shown import Block, Shown, Table
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target
from vitedge.terminal.progress import Progress, silent

if TYPE_CHECKING:
    from typing import Unpack

USUAL_PRECISION = Precision.INT8
"""What is written where neither a precision, a target nor a layout is named."""


@dataclass(frozen=True, repr=False)
class Conversion(Shown):
    """The artefacts that ``convert`` wrote, and what was decided about them.

    Attributes:
        source: The model's path, or the name of one in memory.
        read: The way in which the model was read, in words.
        artifacts: The artefacts, each with its ``path`` and ``metadata``.
        skipped: The reasons why the format has no precision for an artefact, by file name.
        missing: The reasons why an artefact could not be made of this model, by file name.
        assumed: The precision, if none was given.
    """

    source: str
    read: str
    artifacts: tuple[Written, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    assumed: Precision | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The artefacts' main files."""
        return tuple(each.path for each in self.artifacts)

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The way the model was read, the artefacts, and the decisions about each."""
        rows = tuple(
            (str(each.path), f"{size_of(each.path) / 1e6:#.3g} MB", parity_words(each))
            for each in self.artifacts
        )
        words = [f"{each.path.name}: {each.lost}" for each in self.artifacts if each.lost]
        return [
            f"read {self.source}: {_calmly(self.read)}",
            *self._of_all(lambda metadata: metadata.narrowing),
            *self._of_all(lambda metadata: metadata.merging),
            Table(rows, ("", "", ""), numbers=frozenset([1]), folds=False),
            *words,
        ]

    def _of_all(self, part: Callable[[Metadata], Narrowing | TokenMerging | None]) -> list[str]:
        """A part of the metadata in words: once, where it is the same in all artefacts."""
        found = {
            each.path.name: described.words
            for each in self.artifacts
            if (described := part(each.metadata)) is not None
        }
        if len(set(found.values())) == 1:
            return [next(iter(found.values()))]
        return [f"{name}: {words}" for name, words in found.items()]


def _calmly(read: str) -> str:
    """Describes how a model was read, without repeating its import."""
    return re.sub(r", logits not compared: .*(?=\)$)", "", read) if read.endswith(")") else read


def parity_words(written: Written) -> str:
    """Says how near an artefact is to its model, and on which images that was measured."""
    parity, is_calibrated = written.metadata.parity, written.metadata.calibration is not None
    if parity is None:
        return ""
    quality = "equal to" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB against"
    images = written.compared_on if is_calibrated else "images"
    return f"{quality} the model on {parity.n} {images}"


def convert(
    model: Model,
    *,
    precisions: str | Iterable[str] = (),
    formats: str | Iterable[str] = (),
    targets: str | Target | Iterable[str | Target] = (),
    chips: str | Iterable[str] = (),
    calibration: Images | None = None,
    data: Images | None = None,
    max_drop: float | None = None,
    tune: bool = False,
    tokens: float | str | None = None,
    width: float | None = None,
    merge: str | None = None,
    minutes: float | None = None,
    layout: str | None = None,
    name: str | None = None,
    output: str | os.PathLike[str] = ".",
    batch: int = 1,
    without: str | Iterable[str] = (),
    features: bool = False,
    also: str | Iterable[str] = (),
    tail: bool = False,
    probabilities: bool = False,
    strict: bool = False,
    force: bool = False,
    progress: Progress = silent,
    on_written: OnWritten = unheard,
    warn: Tell = python_warning,
    **source: Unpack[SourceOptions],
) -> Conversion:
    """Writes artefacts of a model: ``model.int8.tflite``, ``model.int8.onnx`` and so on.

    Each is loaded in its own runtime after writing and compared with the model; one that computes
    something else is an error, and is not written::

        made = vitedge.convert(model, precisions=["int8", "fp16"], calibration=photos)
        with vitedge.load(made.paths[0]) as classifier: ...

    Args:
        model: A path, or a Keras model in memory.
        precisions: ``fp32``, ``fp16``, ``int8``, ``int8-static``, ``w8a16`` or ``int4``, or
            several. None means int8, or what the targets or the layout take.
        formats: ``tflite``, ``onnx`` or ``openvino``, or several. None means all three.
        targets: Devices such as ``tflite-gpu``, as ``--for``: precision and form follow from them.
        chips: Compile for these chips of the targets only.
        calibration: Typical images to measure the ranges of integers on, labelled or not; uint8
            pixels where they lie in memory. None means synthetic ones, and a warning.
        data: Other images, to compare the artefacts with the model on, and to measure ``max_drop``
            on. None means some that are kept out of the calibration, where there are enough.
        max_drop: Points of top-1 (of agreement without labels) that an integer artefact may lose.
        tune: Time several graphs of each artefact here, and keep the fastest.
        tokens: Merge tokens that are alike until this share of the multiplications is left, such
            as 0.7; or by a schedule such as ``4:53,8:45``, 53 after block 4 and 45 after block 8;
            or ``auto``: the fastest schedule here, for each artefact, that keeps ``max_drop``
            against float32 without merging, measured on ``data``.
        width: Remove the heads and hidden channels that the outputs miss least, as measured on
            ``calibration``, until this share of the multiplications is left, such as 0.9. Where
            tokens are merged, too, the two shares are multiplied.
        merge: ``alike``: what is alike in each picture; ``constant``: the same tokens in every
            picture, those that are alike on average, for devices that cannot sort. None means
            ``alike``, but ``constant`` where a target or a precision needs that.
        minutes: The longest time that ``tokens="auto"`` may search for each artefact.
        layout: ``huggingface`` or ``litert-community``: write a folder for other clients, with a
            model card.
        name: The beginning of file names; None means the model's name.
        output: Folder for the artefacts.
        batch: Static batch size.
        without: Names of exact rewrites to leave out.
        features: Give what the head reads as a second output, for embeddings.
        also: Further outputs: ``embedding`` (what the head reads), ``tokens``, ``map`` (the
            patches' tokens at their places), or ``block.0`` and so on.
        tail: Put the source's own nodes behind the outputs of ONNX artefacts, in float: what
            cannot be read, such as non-maximum suppression.
        probabilities: Give the softmax of the logits in their place, or the sigmoid of each label.
        strict: An image that cannot be read is an error, not left out.
        force: Overwrite what exists.
        progress: Told how far things are.
        on_written: Told of each artefact as soon as it is there.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Raises:
        UsageError: Options contradict each other, or an output exists.
        ModelError: The model cannot be read.
        DataError: Images cannot be used.
        ConversionError: None of the artefacts can be made, or one whose format was named cannot.
        ParityError: An artefact computes something else than the model.
        BudgetError: An artefact cannot keep ``max_drop``.
        VitedgeError: The disk refuses.
    """
    importing = import_options(source, warn)
    asked = _Asked.of(precisions, formats, targets, chips, layout)
    photos = _open_calibration(calibration, warn, strict=strict)
    if width is not None and tokens == AUTO:
        raise UsageError(
            "--tokens auto searches merging for the model as wide as it is: give --tokens SHARE "
            "with --width"
        )
    merged = _read_tokens(tokens, merge, minutes, asked)
    searches = isinstance(merged, TokenSearch)
    if searches and (data is None or max_drop is None):
        raise UsageError(
            "--tokens auto measures what merging loses: give --data, images to measure on, and "
            "--max-drop, the points that may be lost"
        )
    can_lose = searches or any(not each.is_float for each in asked.each_made)
    measured = _open_data(max_drop, data, asked.each_made, photos, warn, strict, can_lose)
    options = pipeline.ConvertOptions(
        formats=asked.formats or all_formats(),
        precisions=asked.precisions,
        output=Path(output),
        batch=batch,
        without=several(without),
        budget=None if max_drop is None or measured is None else DropBudget(max_drop, measured),
        compared=measured,
        tune=tune,
        tokens=merged if isinstance(merged, TokenOptions) else None,
        width=read_width(width),
        search=merged if isinstance(merged, TokenSearch) else None,
        features=features,
        also=several(also),
        tail=tail,
        probabilities=probabilities,
        layout=asked.layout,
        name=_read_name(name, asked),
        force=force,
    )
    refused: dict[Path, ConversionError] = {}
    with opened(model, importing) as found:
        options = replace(options, importing=found.importing)
        written = _write(found.path, options, asked, photos, refused, progress, warn, on_written)
    if not written:
        raise next(iter(refused.values()))
    if photos is None and any(not each.metadata.precision.is_float for each in written):
        warn(
            "no --calibration images were given, so integers are fitted to synthetic ones; a few "
            "dozen typical photos make them more accurate"
        )
    return Conversion(
        source=found.path.name if found.in_memory else str(found.path),
        read=written[0].metadata.source.path,
        artifacts=written,
        skipped=_reasons(refused, is_of_format=True),
        missing=_reasons(refused, is_of_format=False),
        assumed=asked.assumed,
    )


@dataclass(frozen=True)
class _Asked:
    """The files to write, and their targets.

    Attributes:
        precisions: The precisions that were asked for, or the usual ones; empty if the targets
            decide.
        formats: The formats that were asked for; empty for all, or if the targets decide.
        targets: Devices to write for.
        chips: Chips of theirs to compile for.
        layout: The folder to write.
        assumed: The usual precision, where nothing decides it.
    """

    precisions: tuple[Precision, ...]
    formats: tuple[Format, ...]
    targets: tuple[Target, ...]
    chips: tuple[str, ...]
    layout: Layout | None
    assumed: Precision | None

    @classmethod
    def of(
        cls,
        precisions: str | Iterable[str],
        formats: str | Iterable[str],
        targets: str | Target | Iterable[str | Target],
        chips: str | Iterable[str],
        layout: str | None,
    ) -> _Asked:
        """Reads what was asked for.

        Raises:
            UsageError: A name is unknown, or two options decide the same.
        """
        devices, named_chips = targets_of(targets), several(chips)
        wanted = each_of(Precision, precisions, "the precision")
        named = each_of(Format, formats, "--format")
        laid_out = None if layout is None else one_of(Layout, layout, "--layout")
        if laid_out is not None:
            if devices:
                raise UsageError("--for and --layout name files in different ways; leave one out")
            laid = LAYOUTS[laid_out]
            usual = tuple(each for each in laid.files if not each.all_integer)
            wanted, named = wanted or usual, named or (laid.format,)
        if devices and named:
            raise UsageError("--for decides the format; leave out --format")
        if named_chips and not devices:
            raise UsageError("--chip says what --for compiles; give --for as well")
        assumed = None if devices or wanted else USUAL_PRECISION
        made = wanted if assumed is None else (assumed,)
        return cls(made, named, devices, named_chips, laid_out, assumed)

    @property
    def each_made(self) -> tuple[Precision, ...]:
        """The precisions of all artefacts."""
        if not self.targets:
            return self.precisions
        return tuple(
            each for target in self.targets for each in precisions_for(target, self.precisions)
        )


def _read_name(name: str | None, asked: _Asked) -> str | None:
    if name is None:
        return None
    if asked.layout is not None:
        raise UsageError(f"--layout {asked.layout} names its files itself; leave out --name")
    if not name or Path(name).name != name or name.startswith((".", "-")) or "\\" in name:
        raise UsageError(f"--name is what file names begin with, not a path: '{name}'")
    return name


def _read_tokens(
    tokens: float | str | None, merge: str | None, minutes: float | None, asked: _Asked
) -> TokenOptions | TokenSearch | None:
    if tokens is None:
        for name, value in (("--merge", merge), ("--minutes", minutes)):
            if value is not None:
                raise UsageError(f"{name} says how --tokens merges; give --tokens as well")
        return None
    if merge not in (None, *MERGES):
        raise UsageError(f"--merge is {' or '.join(MERGES)}, not '{merge}'")
    elsewhere = [each for each in asked.targets if each.device != "cpu"]
    if tokens == AUTO and elsewhere:
        raise UsageError(
            f"--tokens auto times artefacts on this machine's processor, not for {elsewhere[0]}; "
            "give --tokens SHARE"
        )
    # Only processors have a fast TopK; integers alone have none.
    needs_constant = bool(elsewhere) or any(each.all_integer for each in asked.each_made)
    constant = needs_constant if merge is None else merge == "constant"
    return read_tokens(tokens, constant=constant, minutes=minutes)


def _open_calibration(calibration: Images | None, warn: Tell, *, strict: bool) -> ImageSet | None:
    photos = photos_of(calibration)
    if photos is None:
        return None
    images = readable(open_images(photos, part=Part.TRAINING), strict=strict)
    warn_of_images(images, warn, calibrating=True)
    return images


def _open_data(
    max_drop: float | None,
    data: Images | None,
    precisions: Sequence[Precision],
    calibration: ImageSet | None,
    warn: Tell,
    strict: bool,
    can_lose: bool,
) -> ImageSet | None:
    photos = photos_of(data)
    if max_drop is not None and photos is None:
        raise UsageError("--max-drop needs --data: images to measure on what is lost")
    if max_drop is not None and not can_lose:
        names = " and ".join(precisions)
        raise UsageError(f"--max-drop lifts layers out of integers, of which {names} has none")
    if photos is None:
        return None
    measured = readable(open_images(photos, part=Part.HELD_OUT), strict=strict)
    warn_of_images(measured, warn)
    if calibration is not None:
        refuse_overlap(calibration, measured)
    return measured


def _write(
    source: Path,
    options: pipeline.ConvertOptions,
    asked: _Asked,
    calibration: ImageSet | None,
    refused: dict[Path, ConversionError],
    progress: Progress,
    warn: Tell,
    on_written: OnWritten,
) -> tuple[Written, ...]:
    if asked.targets:
        return convert_for(
            source,
            asked.targets,
            options,
            chips=asked.chips,
            calibration=calibration,
            progress=progress,
            warn=warn,
            on_written=on_written,
        )
    return pipeline.convert(
        source,
        options,
        calibration=calibration,
        progress=progress,
        # Asked for by name, a format that cannot is an error.
        on_refusal=None if asked.formats else refused.__setitem__,
        on_written=on_written,
    )


def _reasons(refused: Mapping[Path, ConversionError], *, is_of_format: bool) -> dict[str, str]:
    return {
        path.name: str(why)
        for path, why in refused.items()
        if isinstance(why, PrecisionError) == is_of_format
    }
