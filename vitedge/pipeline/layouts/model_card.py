"""A model card: front matter for a hub, then what the files are and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from vitedge.artifacts.metadata import Metadata, Parity, size_of
from vitedge.artifacts.written import Written
from vitedge.network.tasks import Task
from vitedge.terminal.printable import printable

FrontMatter: TypeAlias = Mapping[str, str | Sequence[str]]

_TAGS = {Task.CLASSES: "image-classification", Task.EMBEDDING: "image-feature-extraction"}
"""What hubs call a model, by its task. A map may be of depth or of anything else."""

_CALLS = {
    Task.CLASSES: 'model.classify("photo.jpg")',
    Task.BINARY: 'model.classify("photo.jpg")',
    Task.LABELS: 'model.classify("photo.jpg")',
    Task.NUMBERS: 'model.predict("photo.jpg")',
    Task.EMBEDDING: 'model.embed(["photo.jpg"])',
    Task.MAP: 'model.predict("photo.jpg")',
}


def front_matter(library: str, format_tag: str, metadata: Metadata) -> FrontMatter:
    """The keys and values under which a hub files a model.

    Args:
        library: The client's name, as hubs spell it.
        format_tag: The tag of the files' format.
        metadata: The metadata of one file.
    """
    is_segmenter = metadata.task is Task.MAP and len(metadata.labels) > 1
    tag = "image-segmentation" if is_segmenter else _TAGS.get(metadata.task, "")
    tagged: FrontMatter = {"pipeline_tag": tag} if tag else {}
    tags = list(filter(None, ("vision", tag, format_tag, "vitedge")))
    return {"library_name": library, **tagged, "tags": tags}


def in_vitedge(file: str, task: Task) -> str:
    """Markdown that shows how a file is run by this program."""
    return (
        "```python\nimport vitedge\n\n"
        f'with vitedge.load("{file}") as model:\n    print({_CALLS[task]})\n```'
    )


def model_card(
    matter: FrontMatter,
    folder: Path,
    written: Sequence[Written],
    usage: str,
) -> str:
    """The text of ``README.md``.

    Args:
        matter: Keys and values for the hub.
        folder: The folder of the files.
        written: The artefacts.
        usage: Markdown that shows how a client loads them.
    """
    metadata = written[0].metadata
    stem = Path(metadata.source.name).stem
    size = f"{metadata.parameters / 1e6:.1f} million parameters"
    if metadata.macs:
        size += f", {metadata.macs / 1e9:.2f} billion multiply-accumulates an image"
    sections = [
        _yaml(matter),
        f"# {_text(stem)}",
        f"{_kind(metadata)}; {size}. Converted by "
        f"vitedge from `{_text(metadata.source.name)}` "
        f"(SHA-256 `{metadata.source.sha256}`, read {_text(metadata.source.path)}).",
        f"Input: raw pixels 0..255, {metadata.preprocessing.words}. The network normalizes them "
        "itself.",
        "## Files",
        _table(folder, written),
        _how(written),
        "## Use",
        usage,
        "The licence of the weights is that of their author: add `license:` to the front matter "
        "before you publish them.",
    ]
    return "\n\n".join(sections) + "\n"


def _yaml(values: FrontMatter) -> str:
    lines = ["---"]
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key}: {value}")
        else:
            lines += [f"{key}:", *(f"- {each}" for each in value)]
    return "\n".join([*lines, "---"])


def _kind(metadata: Metadata) -> str:
    if metadata.task is Task.CLASSES:
        return f"An image classifier of {len(metadata.labels) or 'unnamed'} classes"
    return f"A vision model that gives {metadata.task.words}"


def _table(folder: Path, written: Sequence[Written]) -> str:
    lines = [
        "| file | precision | MB | SQNR dB | largest difference | same answer |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for each in written:
        name = each.path.relative_to(folder).as_posix()
        measured = _quality(each.metadata.parity)
        size = f"{size_of(each.path) / 1e6:.1f}"
        lines.append(f"| `{name}` | {each.metadata.precision} | {size} | {measured} |")
    return "\n".join(lines)


def _quality(parity: Parity | None) -> str:
    if parity is None:
        return " | | "
    ratio = "equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f}"
    same = "" if parity.agreement is None else f"{parity.agreement:.0%}"
    return f"{ratio} | {parity.relative_difference:.2%} | {same}"


def _how(written: Sequence[Written]) -> str:
    metadata = written[0].metadata
    parity = metadata.parity
    images = 0 if parity is None else parity.n
    calibrations = [each.metadata.calibration for each in written if each.metadata.calibration]
    kind = "synthetic images"
    calibrated = ""
    if calibrations:
        first = calibrations[0]
        kind = "synthetic images" if first.kind == "synthetic" else "photos"
        calibrated = f" Integers were fitted to {first.n} {kind} (SHA-256 `{first.sha256}`)."
    versions = ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
    has_answers = parity is not None and parity.agreement is not None
    same = ", and how often both answer alike" if has_answers else ""
    return (
        "Each file was loaded in its own runtime after it was written, and its outputs of "
        f"{images} images were compared with those of the float32 model: signal-to-noise ratio, "
        f"the largest difference over the range of the outputs{same}."
        f"{calibrated} Accuracy and latency were not measured: both depend on your images and your "
        f"device, and `vitedge bench` measures them. Made with {versions}."
    )


def _text(foreign: str) -> str:
    """Text of others in one line that Markdown takes as it is."""
    return printable(foreign).replace("`", "'").replace("|", "/")
