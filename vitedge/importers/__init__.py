"""Reading a ViT out of a file or folder.

A module in this package that ends ``PLUGIN = ...`` is an importer; packages outside may add theirs
under the entry point group ``vitedge.importers``. The first importer that recognises a source
reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vitedge.artifacts.metadata import read_metadata
from vitedge.errors import ModelError, NotAViTError, first_line
from vitedge.images.image_sets import ImageSet
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import ImageLike
from vitedge.network.kinds import Activation
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.targets.formats import Format
from vitedge.targets.plugins import discover

if TYPE_CHECKING:
    from vitedge.importers.reading.lora import Adapter

_COMPARED_IMAGES = 8
"""The NumPy reference takes a second for each at the size of ViT-B/16."""


@dataclass(frozen=True)
class ImportOptions:
    """Facts about a source that a person adds to those in the file.

    None means: what the file says, else the published default of its kind.

    Attributes:
        heads: Number of attention heads; shapes do not tell it.
        image_size: Height and width in pixels; the positions are interpolated when it differs.
        activation: Non-linearity of the MLPs.
        norm_eps: Epsilon of every norm.
        mean: Per-channel mean of pixels scaled to 0..1.
        std: Per-channel standard deviation of pixels scaled to 0..1.
        resize: Length of the shorter side before the centre crop; 0 stretches to the size.
        interpolation: Resampling filter.
        labels: One name per class.
        weights: The choice among several models of a checkpoint: ``ema``, ``raw`` or its name.
        head: Name of the layer beside a checkpoint's model that is its head.
        head_activation: Non-linearity between the layers of a head that has several.
        architecture: timm's name of the model, where the weights do not tell it.
        base: The model that a LoRA adapter belongs to.
        adapter: The adapter that is merged into what is read; importers set it.
        task: The meaning of the outputs, if the source is silent or wrong about it; None takes the
            source's word.
        logits: Names of the outputs that hold the logits; those of two are averaged.
        trust: Code inside the file may run.
        custom_objects: ``module:name`` of the user's own Keras layers, which may be imported.
        beside: Names of further outputs of a traced model, to be read beside the main one.
        tail: The rest of the source comes to stand behind what is read, with all outputs.
        images: Images on which logits are compared with the source's, besides made-up ones.
        warn: Told what is odd about the weights.
    """

    heads: int | None = None
    image_size: tuple[int, int] | None = None
    activation: Activation | None = None
    norm_eps: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    labels: tuple[str, ...] | None = None
    weights: str | None = None
    head: str | None = None
    head_activation: Activation | None = None
    architecture: str | None = None
    base: Path | None = None
    adapter: Adapter | None = None
    task: Task | None = None
    logits: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    trust: bool = False
    custom_objects: tuple[str, ...] = ()
    tail: bool = False
    images: tuple[ImageLike, ...] = ()
    warn: Callable[[str], None] = field(default=lambda _: None, compare=False, repr=False)

    def compared_on(self, images: ImageSet | None) -> ImportOptions:
        """The options with the first images of a set, which logits are compared on."""
        if images is None:
            return self
        samples = images.samples[:_COMPARED_IMAGES]
        return replace(self, images=tuple(sample.image for sample in samples))


@dataclass(frozen=True)
class Imported:
    """A model that was read.

    Attributes:
        network: Its canonical form.
        path: The way in which it was read, in words: ``by name: timm``, ``lifted: 12 blocks, ...``.
        proof: The distance of its logits from those of its source in its own engine, in words;
            empty if the source was not run.
        origin: The origin of a model in vitedge's own format, in words, empty if it is unknown;
            None for a source of any other kind.
    """

    network: Network
    path: str
    proof: str = ""
    origin: str | None = None


class Importer(Protocol):
    """Reads one kind of source."""

    @property
    def name(self) -> str:
        """Short name of the source: ``timm``."""
        ...

    @property
    def rank(self) -> int:
        """Importers of lower rank are asked first: 0 by name, 1 by lifting."""
        ...

    def recognizes(self, path: Path) -> bool:
        """Whether the source is of this kind, from its extension and names alone.

        Reads headers and key lists, never weights; runs nothing of the file. False, never an
        error, for whatever is not of this kind.
        """
        ...

    def read(self, path: Path, options: ImportOptions) -> Imported:
        """Reads the whole source.

        Raises:
            NotAViTError: The source is of this kind, but not a vision transformer.
            ModelError: The source is truncated or inconsistent, or an option contradicts it.
        """
        ...


@cache
def importers() -> tuple[Importer, ...]:
    """All importers in the order they are asked."""
    found: list[Importer] = discover(__name__, __path__)
    return tuple(sorted(found, key=lambda importer: (importer.rank, importer.name)))


def _refuse_artifacts(path: Path) -> None:
    """Refuses a converted file, which has lost what converting needs, and perhaps its weights."""
    if path.suffix != Format.ONNX.suffix:
        return
    try:
        metadata = read_metadata(path)
    except ModelError:
        return  # the importers say what is wrong with it
    if metadata is not None:
        raise ModelError(
            f"'{path}' is an artefact that vitedge made; give the model that it was made of, "
            f"'{metadata.source.name}'"
        )


def read_model(path: Path, options: ImportOptions | None = None) -> Imported:
    """Reads a ViT from any source that some importer recognises.

    Raises:
        NotAViTError: No importer can read it, but it holds a graph, which its own engine runs.
        ModelError: The source is missing, no importer can read it, or its weights are not finite.
    """
    if not path.exists():
        raise ModelError(f"there is no model '{path}'")
    options = options or ImportOptions()
    _refuse_artifacts(path)
    for importer in importers():
        if importer.recognizes(path):
            try:
                imported = importer.read(path, options)
            except NotAViTError as error:
                if _holds_graph(path):
                    raise
                raise ModelError(str(error)) from error
            except ValueError as error:  # as of an epsilon below zero, which no network takes
                raise ModelError(
                    f"the values in '{path}' do not make a network: {first_line(error)}"
                ) from error
            return _told(path, _sound(path, imported, options))
    # Only now, because it reads headers through the packages of all formats.
    from vitedge.importers.unrecognized import why_unrecognized

    raise ModelError(f"'{path}' is not a model that vitedge can read: {why_unrecognized(path)}")


def _holds_graph(path: Path) -> bool:
    """Whether a source says how its weights are computed with, so that it can be run."""
    from vitedge.importers.lift.keras_files import is_keras_network

    return path.suffix.lower() == ".onnx" or is_keras_network(path)


def _told(path: Path, imported: Imported) -> Imported:
    """The model, and in its path what of the source takes no part."""
    from vitedge.importers.lift.augmentation import augmentation_words

    words = augmentation_words(path)
    return replace(imported, path=f"{imported.path}, {words}") if words else imported


def _sound(path: Path, imported: Imported, options: ImportOptions) -> Imported:
    from vitedge.importers.lift.ending import refuse_single_class
    from vitedge.importers.soundness import refuse_broken, zero_parts

    refuse_broken(path, imported.network)
    missing = [name for name in options.beside if name not in imported.network.outputs]
    if missing:
        raise ModelError(
            f"'{path}' is read by the names of its weights, which give no output '{missing[0]}': "
            "leave out --beside, or give an ONNX export of the model"
        )
    refuse_single_class(f"'{path}'", imported.network.task, imported.network.classes)
    zeros = zero_parts(imported.network)
    if zeros:
        options.warn(
            f"all weights are zero in {', '.join(zeros)} of '{path}': the file may have been cut "
            "short, or was never trained there"
        )
    return imported
