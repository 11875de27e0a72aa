"""Tools that write and dissect the files of a format, with packages that devices lack."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.contents import Interface, Operator
from vitedge.artifacts.metadata import Metadata
from vitedge.converters.converter import Converter, Draft
from vitedge.converters.generic.candidate import Alternative, CalibrationImages
from vitedge.converters.generic.model import GenericModel
from vitedge.converters.source_tail import Tail
from vitedge.errors import ConversionError, PrecisionError
from vitedge.network.operators import Array
from vitedge.quantize import Activations
from vitedge.targets.fits import DeviceLimits
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions

Rule: TypeAlias = Callable[[Path], Iterator[tuple[str, str, str]]]
"""Gives the nodes of a file that a kind of device cannot run: operator, name and reason."""

GenericDrafts: TypeAlias = Callable[
    [GenericModel, Precision, int, CalibrationImages], Iterator[Alternative]
]
"""Drafts of a model that is not read, in a precision and a batch size, the best bet first.

Raises ``ConversionError`` where the format cannot express the model, or its quantizer fails.
"""


@dataclass(frozen=True)
class Variant:
    """One way to emit an artefact.

    Attributes:
        name: The name for people.
        extra: Rewrites beyond the default ones; None is what the converter says. As the
            converter's, they leave the inputs of linear layers as they are.
        activations: The quantization of inputs of integer layers; None is the format's usual way.
    """

    name: str
    extra: tuple[str, ...] | None = None
    activations: Activations | None = None


RMS_NORM = Variant("RMSNorm on a centred stream", ("centre-residual",))
"""For runtimes that have a norm as one operator."""


def _no_needs(_: Interface, __: Metadata | None) -> dict[str, str]:
    return {}


def _no_variants(_: Precision) -> tuple[Variant, ...]:
    return ()


def _as_compiled(_: Path, __: Metadata) -> None:
    return None


@dataclass(frozen=True)
class FormatTools:
    """Everything of a format that may need its own packages, imported when it is called.

    Attributes:
        converter: Writes its files.
        package: The package that writes them, whose version an artefact tells.
        read_operators: Gives each operator of a file; raises ``ModelError`` and
            ``UnavailableError``.
        read_interface: Gives the inputs and outputs of a file; raises the same.
        inner_tensors: Tensors of a file of batch 1 by name, of pixels ``(1, H, W, C)``; those that
            it does not have are left out. Raises what its engine does.
        generic: Drafts of models that are not read, or None where the format has no tools for them.
        generic_precisions: The precisions that those tools have.
        limits: The rules of each kind of device.
        client_needs: The things that a file lacks for each other client of the format, in words;
            empty for a client that takes the file unchanged.
        with_tail: Appends an ONNX source's own nodes to a draft's outputs; None if files of the
            format cannot hold them.
        variants: The graphs that may be faster somewhere than the usual graph of a precision, and
            as accurate.
        finish_compiled: Adds what a compiler for a chip leaves out of an artefact's file.
    """

    converter: Converter
    package: str
    read_operators: Callable[[Path], Iterator[Operator]]
    read_interface: Callable[[Path], Interface]
    inner_tensors: Callable[[Path, Collection[str], npt.NDArray[np.uint8]], dict[str, Array]]
    generic: GenericDrafts | None = None
    generic_precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    limits: Mapping[DeviceLimits, Rule] = field(default_factory=lambda: MappingProxyType({}))
    client_needs: Callable[[Interface, Metadata | None], dict[str, str]] = _no_needs
    with_tail: Callable[[Draft, Tail], Draft] | None = None
    variants: Callable[[Precision], tuple[Variant, ...]] = _no_variants
    finish_compiled: Callable[[Path, Metadata], None] = _as_compiled


def tools_of(target: Format) -> FormatTools:
    """The tools of a format.

    Raises:
        ConversionError: Its record gives something else.
    """
    found = target.record.tools()
    if not isinstance(found, FormatTools):
        raise ConversionError(f"the record of {target} gives {type(found).__name__} for its tools")
    return found


def converters() -> tuple[Converter, ...]:
    """The converters to all formats, in their order."""
    return tuple(tools_of(each).converter for each in all_formats())


def precisions_of(converter: Converter) -> tuple[Precision, ...]:
    """The precisions that a format's runtime has."""
    return tuple(each for each in all_precisions() if each.row.arithmetic in converter.arithmetics)


def converter_for(target: Format, precision: Precision) -> Converter:
    """The converter to a format.

    Raises:
        PrecisionError: The format lacks the precision.
    """
    converter = tools_of(target).converter
    if precision in precisions_of(converter):
        return converter
    arithmetic = precision.row.arithmetic
    why = converter.refusals.get(precision, f"its runtime has no {arithmetic} arithmetic")
    raise PrecisionError(f"{target} has no {precision}: {why}")
