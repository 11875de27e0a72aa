"""A model card: front matter for a hub, then what the files are and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vitedge.artifacts.metadata import Parity, size_of
from vitedge.artifacts.written import Written
from vitedge.terminal.printable import printable


def model_card(
    front_matter: Mapping[str, str | Sequence[str]],
    folder: Path,
    written: Sequence[Written],
    usage: str,
) -> str:
    """The text of ``README.md``.

    Args:
        front_matter: Keys and values for the hub.
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
        _yaml(front_matter),
        f"# {_text(stem)}",
        f"An image classifier of {len(metadata.labels) or 'unnamed'} classes; {size}. Converted by "
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


def _yaml(values: Mapping[str, str | Sequence[str]]) -> str:
    lines = ["---"]
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key}: {value}")
        else:
            lines += [f"{key}:", *(f"- {each}" for each in value)]
    return "\n".join([*lines, "---"])


def _table(folder: Path, written: Sequence[Written]) -> str:
    lines = [
        "| file | precision | MB | SQNR dB | largest difference | same top class |",
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
        return "| |"
    ratio = "equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f}"
    return f"{ratio} | {parity.relative_difference:.2%} | {parity.agreement:.0%}"


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
    return (
        f"Each file was loaded in its own runtime after it was written, and its scores of {images} "
        "images were compared with those of the float32 model: signal-to-noise ratio, the largest "
        "difference over the range of the scores, and how often both name the same class."
        f"{calibrated} Accuracy and latency were not measured: both depend on your images and your "
        f"device, and `vitedge bench` measures them. Made with {versions}."
    )


def _text(foreign: str) -> str:
    """Text of others in one line that Markdown takes as it is."""
    return printable(foreign).replace("`", "'").replace("|", "/")
