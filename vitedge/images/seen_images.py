"""The images that a model learnt from and was chosen by: a file in its run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vitedge.files import json_values
from vitedge.files.staging import write_whole
from vitedge.images.image_digests import smallest_digests
from vitedge.images.image_sets import ImageSet

SEEN_FILE = "images.json"

# Of more images, digests would take minutes.
_MOST_IMAGES = 200_000


@dataclass(frozen=True)
class Seen:
    """The images that a model has seen.

    Attributes:
        model_sha256: Digest of the model's file, in hex.
        learnt_from: Digests of images, as ``smallest_digests`` gives them.
        chosen_by: The digests of the held-out images that the epoch was chosen by; may be empty.
    """

    model_sha256: str
    learnt_from: tuple[str, ...]
    chosen_by: tuple[str, ...] = ()


def record_seen(
    folder: Path, model_sha256: str, images: ImageSet, chosen_by: ImageSet | None
) -> None:
    """Writes what a model has seen, unless the sets are huge.

    Raises:
        DataError: An image is no longer there.
        VitedgeError: The disk refuses.
    """
    if len(images.samples) > _MOST_IMAGES:
        return
    held_out = () if chosen_by is None else smallest_digests(chosen_by)
    seen = Seen(model_sha256, smallest_digests(images), held_out)
    write_whole(folder / SEEN_FILE, json.dumps(asdict(seen)))


def seen_by(model_sha256: str, folders: Iterable[Path]) -> Seen | None:
    """The images that a model has seen, if one of the folders holds the folder of its run."""
    for seen in _read_all(folders):
        if seen.model_sha256 == model_sha256:
            return seen
    return None


def _read_all(folders: Iterable[Path]) -> Iterator[Seen]:
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.glob(f"*.run/{SEEN_FILE}")):
            try:
                values = json_values.parse_object(path.read_bytes())
                yield Seen(
                    json_values.text(values, "model_sha256"),
                    json_values.texts(values, "learnt_from"),
                    json_values.texts(values, "chosen_by"),
                )
            except (OSError, ValueError):  # it says nothing then
                continue
