"""The artefacts of a pick: what makes each, and which were made already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitedge.artifacts.metadata import files_of
from vitedge.errors import ConversionError
from vitedge.files.staging import refuse_existing
from vitedge.images.image_sets import ImageSet
from vitedge.importers import ImportOptions
from vitedge.pick.journal import Journal, about
from vitedge.pick.savings import SAVINGS, Saving
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.verified_write import artifact_path
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress


@dataclass(frozen=True)
class Choosing:
    """A saving as an artefact has it.

    Attributes:
        saving: The saving.
        value: Its size, as `convert` takes it.
    """

    saving: Saving
    value: float


@dataclass(frozen=True)
class Variety:
    """The options that make an artefact of a model.

    Attributes:
        precision: Its precision.
        format: Its format.
        savings: The work that it leaves out; empty where it does all.
        constant: Whether it merges the same tokens in every picture, where it merges any.
    """

    precision: Precision
    format: Format
    savings: tuple[Choosing, ...] = ()
    constant: bool = False

    def name(self, model: Path) -> str | None:
        """The beginning of its file name, so that those of one precision lie side by side."""
        if not self.savings:
            return None
        parts = [f"{each.saving.name}-{each.value:g}" for each in self.savings]
        return ".".join([model.stem, *parts, *(["constant"] if self.constant else [])])

    @property
    def words(self) -> str:
        """The work that it leaves out; empty where it does all."""
        return ", ".join(f"{each.saving.name} {each.value:g}" for each in self.savings)

    def options(self, whole: ConvertOptions, model: Path) -> ConvertOptions:
        """The options of `convert`, from those that make all of the model."""
        found = replace(
            whole,
            formats=(self.format,),
            precisions=(self.precision,),
            name=self.name(model),
        )
        for each in self.savings:
            found = each.saving.applied(found, each.value, self.constant)
        return found

    def typed(self, model: Path) -> list[str]:
        """The options as words of the command line."""
        words = [f"--{self.precision}", "--format", str(self.format)]
        for each in self.savings:
            words += each.saving.typed(each.value, self.constant)
        name = self.name(model)
        return words if name is None else [*words, "--name", name]


class Made:
    """Makes artefacts of one model and knows how it made them.

    Args:
        model: The model.
        folder: The folder for artefacts.
        opened: The model, open.
        calibration: Images to calibrate on.
        progress: Told how far things are.
    """

    def __init__(
        self,
        model: Path,
        folder: Path,
        opened: OpenModel,
        calibration: ImageSet | None,
        progress: Progress,
    ) -> None:
        self._model, self._folder, self._opened = model, folder, opened
        self._calibration, self._progress = calibration, progress
        self._varieties: dict[Path, Variety] = {}
        self._journal, self._force = Journal(None, ""), False
        self.refused: dict[str, str] = {}

    @property
    def opened(self) -> OpenModel:
        """The model."""
        return self._opened

    def resume(self, folder: Path | None, importing: ImportOptions, *, force: bool) -> None:
        """Takes up what an interrupted pick made, and refuses to overwrite anything else.

        Args:
            folder: The folder of the journal; None resumes nothing.
            importing: The options for reading the model.
            force: Other files may be overwritten.

        Raises:
            UsageError: A file exists that may be written.
        """
        key = about(self._opened.sha256, importing, self._calibration)
        self._journal, self._force = Journal(folder, key), force
        found = [
            path
            for saving in SAVINGS
            for path in sorted(self._folder.glob(f"{_escaped(self._model.stem)}.{saving.name}-*"))
            if path.is_file() and not self._is_ours(path)
        ]
        refuse_existing(found, force=force)

    def all_tokens(
        self, formats: Sequence[Format], precisions: Sequence[Precision]
    ) -> tuple[Path, ...]:
        """Artefacts of all tokens in every format and precision that can be made.

        Raises:
            ConversionError: None can.
        """
        wanted = [Variety(precision, each) for precision in precisions for each in formats]
        kept = {self._path(each): each for each in wanted}
        missing = {path: each for path, each in kept.items() if not self._is_known(path)}
        existing = [part for path in missing for part in files_of(path)]
        refuse_existing(existing, force=self._force)
        if len(missing) == len(kept):
            self._convert(
                replace(self._whole, formats=tuple(formats), precisions=tuple(precisions))
            )
        else:
            for each in missing.values():
                self._convert(each.options(self._whole, self._model))
        self._varieties = {path: each for path, each in kept.items() if self._was_made(path)}
        if not self._varieties:
            raise ConversionError("; ".join(self.refused.values()))
        return tuple(self._varieties)

    def cheaper(self, variety: Variety) -> Path | None:
        """An artefact that does less; None where it cannot be made."""
        path = self._path(variety)
        if not self._is_known(path):
            self._convert(variety.options(self._whole, self._model))
        if not self._was_made(path):
            return None
        self._varieties[path] = variety
        return path

    def variety(self, path: Path) -> Variety:
        """The choices that an artefact was made by."""
        return self._varieties[path]

    @property
    def _whole(self) -> ConvertOptions:
        """The options of an artefact without savings; what is there was refused, or is ours."""
        return ConvertOptions(output=self._folder, force=True, importing=self._opened.importing)

    def _convert(self, options: ConvertOptions) -> None:
        def refuse(path: Path, error: ConversionError) -> None:
            self.refused[path.name] = str(error)
            self._journal.refuse(path, str(error))

        written = convert(
            self._model,
            options,
            calibration=self._calibration,
            progress=self._progress,
            on_refusal=refuse,
            opened=self._opened_for(options),
        )
        for each in written:
            self._journal.add(each.path)

    def _opened_for(self, options: ConvertOptions) -> OpenModel | None:
        """The model, if it is to be read as it was; None where it is read otherwise.

        What was made of less work is not made again, so nothing of it is kept in memory.
        """
        opened = self._opened
        if options.importing != opened.importing:
            return None
        return opened if options.tokens is None else opened.with_images(opened.images)

    def _is_known(self, path: Path) -> bool:
        """Whether an artefact was made, or refused, when this pick was run before."""
        why = self._journal.why_refused(path)
        if why is not None:
            self.refused[path.name] = why
        return why is not None or self._journal.holds(path)

    def _was_made(self, path: Path) -> bool:
        return path.is_file() and path.name not in self.refused

    def _is_ours(self, path: Path) -> bool:
        return any(self._journal.holds(each) for each in (path, path.with_suffix(".xml")))

    def _path(self, variety: Variety) -> Path:
        name = variety.name(self._model)
        return artifact_path(self._folder, self._model, variety.precision, variety.format, name)


def _escaped(text: str) -> str:
    """The text with the characters escaped that ``glob`` would interpret."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)
