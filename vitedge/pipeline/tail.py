"""Finds the nodes behind a trunk in its source, for ``convert --tail``."""

from __future__ import annotations

from pathlib import Path

from vitedge.converters.converter import Draft
from vitedge.converters.source_tail import Tail
from vitedge.converters.tools import tools_of
from vitedge.errors import ConversionError, UsageError
from vitedge.importers import ImportOptions
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.targets.formats import Format


def tail_of(source: Path, importing: ImportOptions, network: Network) -> Tail:
    """The nodes that read the trunk's outputs.

    Args:
        source: The file of trunk and tail.
        importing: The options that name the trunk's outputs.
        network: The trunk.

    Raises:
        UsageError: The source is not an ONNX file, no option says where the trunk ends, or the
            trunk's outputs are logits, from which a softmax may have been removed.
    """
    if source.suffix.lower() != Format.ONNX.suffix:
        raise UsageError(f"--tail works for ONNX files only; '{source}' is not one")
    if len(importing.logits) != 1:
        raise UsageError("--tail needs --logits NAME: the tensor of the source that the tail reads")
    if network.task.has_logits:
        raise UsageError(
            "--tail reads the trunk's outputs unchanged, but a classifier loses its softmax: give "
            "--task embedding or --task map"
        )
    maps = {*importing.beside, *({network.main_name} if network.task is Task.MAP else ())}
    return Tail(
        source=source,
        joints={network.main_name: importing.logits[0]} | {name: name for name in importing.beside},
        maps=frozenset(maps),
        image_size=importing.image_size,
    )


def with_tail(draft: Draft, target: Format, tail: Tail) -> Draft:
    """An artefact with the source's nodes behind its outputs.

    Raises:
        ConversionError: The format cannot hold them, or they cannot be joined.
    """
    join = tools_of(target).with_tail
    if join is None:
        raise ConversionError(
            f"{target} files cannot hold a source's own nodes; leave out --tail, or take --format "
            "onnx or openvino"
        )
    return join(draft, tail)
