"""The artefacts of a pick: what makes each, and which were made already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitedge.artifacts.metadata import files_of
from vitedge.errors import ConversionError
from vitedge.files.staging import refuse_existing
from vitedge.images.image_sets import ImageSet
from vitedge.importers import ImportOptions
from vitedge.pick.journal import Journal, about
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.verified_write import artifact_path
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress


@dataclass(frozen=True)
class Variety:
    """The function that makes an artefact of a model.

    Attributes:
        precision: Its precision.
        format: Its format.
        tokens: The way in which it merges tokens; None if it has all tokens.
        name: The beginning of its file name; None for the model's name.
    """

    precision: Precision
    format: Format
    tokens: TokenOptions | None = None
    name: str | None = None


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
            for path in sorted(self._folder.glob(f"{_escaped(self._model.stem)}.tokens-*"))
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
        paths = [self._path(each) for each in wanted]
        missing = [path for path in paths if not self._journal.holds(path)]
        if missing:
            existing = [part for path in missing for part in files_of(path)]
            refuse_existing(existing, force=self._force)
            self._convert(tuple(formats), tuple(precisions), None, None)
        kept = dict(zip(paths, wanted, strict=True))
        self._varieties = {path: each for path, each in kept.items() if self._was_made(path)}
        if not self._varieties:
            raise ConversionError("; ".join(self.refused.values()))
        return tuple(self._varieties)

    def fewer_tokens(self, variety: Variety) -> Path | None:
        """An artefact with fewer tokens; None where it cannot be made."""
        path = self._path(variety)
        if not self._journal.holds(path):
            self._convert((variety.format,), (variety.precision,), variety.tokens, variety.name)
        if not self._was_made(path):
            return None
        self._varieties[path] = variety
        return path

    def variety(self, path: Path) -> Variety:
        """The choices that an artefact was made by."""
        return self._varieties[path]

    def _convert(
        self,
        formats: tuple[Format, ...],
        precisions: tuple[Precision, ...],
        tokens: TokenOptions | None,
        name: str | None,
    ) -> None:
        def refuse(path: Path, error: ConversionError) -> None:
            self.refused[path.name] = str(error)

        # What was made of fewer tokens is not made again, so nothing of it is kept in memory.
        opened = self._opened
        written = convert(
            self._model,
            ConvertOptions(
                formats=formats,
                precisions=precisions,
                output=self._folder,
                force=True,  # what is there was refused, or is ours
                importing=opened.importing,
                tokens=tokens,
                name=name,
            ),
            calibration=self._calibration,
            progress=self._progress,
            on_refusal=refuse,
            opened=opened if tokens is None else opened.with_images(opened.images),
        )
        for each in written:
            self._journal.add(each.path)

    def _was_made(self, path: Path) -> bool:
        return path.is_file() and path.name not in self.refused

    def _is_ours(self, path: Path) -> bool:
        return any(self._journal.holds(each) for each in (path, path.with_suffix(".xml")))

    def _path(self, variety: Variety) -> Path:
        precision, own = variety.precision, variety.format
        return artifact_path(self._folder, self._model, precision, own, variety.name)


def named(model: Path, tokens: TokenOptions) -> str:
    """The beginning of the names of artefacts with fewer tokens."""
    how = "-constant" if tokens.constant else ""
    return f"{model.stem}.tokens-{tokens.share:g}{how}"


def _escaped(text: str) -> str:
    """The text with the characters escaped that ``glob`` would interpret."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)
