"""Options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vitedge.images.image_sets import ImageSet
from vitedge.importers import ImportOptions
from vitedge.pipeline.budget import DropBudget
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.pipeline.token_search import TokenSearch
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision


@dataclass(frozen=True)
class ConvertOptions:
    """The artefacts to make of a model, and how.

    Attributes:
        formats: Formats to write.
        precisions: Precisions to write in each.
        output: Folder for the artefacts.
        batch: Static batch size.
        without: Names of rewrites to leave out.
        extra: Names of rewrites to apply although they are not default.
        budget: The budget of integer artefacts; layers are kept in float until it is met.
        tune: Time several graphs of each artefact here, and keep the fastest.
        tokens: The number of tokens to merge, and how; None merges none.
        width: Share of the multiply-accumulates that is left when heads and hidden channels are
            removed, before tokens are merged; None removes none.
        search: The search, for each artefact, for the tokens to merge within the budget; None does
            not search.
        features: Give the artefacts what the head reads as a second output.
        also: Further outputs by name; see ``rewrite.further_outputs``.
        tail: Put the source's own nodes behind the outputs of ONNX artefacts.
        probabilities: Let the artefacts give the softmax of their logits.
        layout: The folder that ``output`` becomes; None writes artefacts alone, whose names say
            format and precision.
        force: Existing artefacts may be overwritten.
        name: The beginning of file names; None means the source's name.
        importing: The options for reading the model.
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
    tokens: TokenOptions | None = None
    width: float | None = None
    search: TokenSearch | None = None
    features: bool = False
    also: tuple[str, ...] = ()
    tail: bool = False
    probabilities: bool = False
    layout: Layout | None = None
    force: bool = False
    name: str | None = None
    importing: ImportOptions = field(default_factory=ImportOptions)
    compared: ImageSet | None = None
