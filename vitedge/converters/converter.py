"""The promises of every converter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from vitedge.artifacts.metadata import Metadata
from vitedge.errors import ConversionError
from vitedge.network.network import Network
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import BreakEven
from vitedge.rewrite.learnt_grid import Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision


class Draft(Protocol):
    """An artefact in memory, complete but for its metadata."""

    def save(self, path: Path, metadata: Metadata) -> None:
        """Writes the file or files with the metadata inside; may be called again.

        Raises:
            ConversionError: The format cannot hold it (too large).
            OSError: The disk refuses.
        """
        ...


class Converter(Protocol):
    """Emits the graph that one format's runtime executes fastest."""

    @property
    def format(self) -> Format:
        """The format that it writes."""
        ...

    @property
    def arithmetics(self) -> frozenset[Arithmetic]:
        """The integers of the format's runtime, which has all precisions of these."""
        ...

    @property
    def refusals(self) -> Mapping[Precision, str]:
        """The reason why it lacks other precisions, and which to take instead."""
        ...

    @property
    def activations(self) -> Activations:
        """The best way for its runtime to quantize the inputs of int8 layers."""
        ...

    @property
    def groups(self) -> Groups:
        """The size of groups of 4-bit weights: as small as its runtime still multiplies fast."""
        ...

    @property
    def break_even(self) -> BreakEven:
        """The layers and convolutions that its runtime computes faster in int8 than in float."""
        ...

    @property
    def rewrites(self) -> tuple[str, ...]:
        """Rewrites beyond the default ones that make its float graphs faster or more accurate.

        They leave the inputs of all linear layers as they are.
        """
        ...

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> Draft:
        """Emits the graph: float32 pixels ``(batch, H, W, C)`` to each output ``(batch, ...)``.

        Args:
            network: The model, already rewritten; left unchanged. Its outputs are those of the
                file, under their names and in their order.
            recipe: Its precision and, for quantized ones, the integers.
            batch: Static batch size.

        Raises:
            ConversionError: The format lacks the precision, or cannot express the model; or there
                are several outputs and no float operators that could give the others.
        """
        ...


def refuse_further_outputs(network: Network, recipe: Recipe) -> None:
    """Refuses all-integer artefacts of several outputs: one scale cannot serve them all.

    Raises:
        ConversionError: The recipe is all-integer, and there is more than one output.
    """
    if recipe.tensors and len(network.outputs) > 1:
        others = [name for name in network.outputs if name != network.main_name]
        remedy = "leave out --features, --also and --beside, or "
        raise ConversionError(
            f"{recipe.precision} computes in integers alone, so its {', '.join(others)} would be "
            f"as coarse as its logits; {remedy}take fp32, fp16 or int8"
        )
