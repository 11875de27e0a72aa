"""The inputs and outputs of an artefact, and the other clients that can use it so.

Read from the file itself, whoever wrote it. What numbers mean is known of our own files only: there
are not guesses.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitedge.artifacts.contents import Interface, Port
from vitedge.artifacts.metadata import CHANNELS_FIRST_PIXELS, Metadata, format_of
from vitedge.converters.tools import tools_of
from vitedge.network.tasks import Task
from vitedge.targets.formats import Format
from vitedge.targets.scores import Scores

_MEANINGS = {
    "features": "what the head reads",
    "pooler_output": "what the head reads",
    "embedding": "what the head reads",
    "tokens": "a vector for each token",
    "last_hidden_state": "a vector for each token",
    "map": "a vector for each patch, at its place",
}


def read_interface(path: Path, metadata: Metadata | None) -> Interface:
    """Reads the inputs and outputs of an artefact.

    Args:
        path: The artefact.
        metadata: The file's metadata, which give its numbers a meaning.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file cannot be read.
        UnavailableError: The format's package is not installed.
    """
    found = tools_of(format_of(path)).read_interface(path)
    return found if metadata is None else _explained(found, metadata)


def _explained(found: Interface, metadata: Metadata) -> Interface:
    channels = "RGB" if metadata.preprocessing.channels == 3 else "grey"
    is_channels_first = any(port.name == CHANNELS_FIRST_PIXELS for port in found.inputs)
    image_layout = "NCHW" if is_channels_first else "NHWC"
    inputs = tuple(
        replace(
            port,
            layout=image_layout,
            low=0.0,
            high=255.0,
            meaning=f"raw {channels} pixels",
        )
        for port in found.inputs
    )
    outputs = []
    for number, port in enumerate(found.outputs):
        is_main = number == 0
        is_share = is_main and metadata.scores is Scores.PROBABILITIES
        outputs.append(
            replace(
                port,
                layout=_layout(port, metadata.task if is_main else None, image_layout),
                low=0.0 if is_share else None,
                high=1.0 if is_share else None,
                meaning=_meaning(metadata) if is_main else _MEANINGS.get(port.name, ""),
            )
        )
    return replace(found, inputs=inputs, outputs=tuple(outputs))


def _layout(port: Port, task: Task | None, image_layout: str) -> str:
    if len(port.shape) == 2:
        return "NC"
    if task is Task.MAP:
        return {3: "NHW", 4: image_layout}.get(len(port.shape), "")
    return {3: "NTC", 4: "NHWC"}.get(len(port.shape), "")


def _meaning(metadata: Metadata) -> str:
    """Describes the main output."""
    task = metadata.task
    what = {Task.CLASSES: "each class", Task.BINARY: "yes", Task.LABELS: "each label"}.get(task)
    if what is None:
        return task.words
    if metadata.scores is Scores.PROBABILITIES:
        return f"probability of {what}"
    return f"logit of {what}, before {'softmax' if task is Task.CLASSES else 'sigmoid'}"


def client_needs(format_: Format, found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """The gaps between a file and the needs of each other client of its format.

    Returns:
        For each client in words what to do; empty where it takes the file as it is.
    """
    return tools_of(format_).client_needs(found, metadata)
