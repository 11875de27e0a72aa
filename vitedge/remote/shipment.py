"""Images and the reference's logits in a few files, for a device to measure accuracy with.

The reference runs on the host, once; a device gets its logits, not the model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vitedge.artifacts.metadata import sha256_of
from vitedge.bench.images import spool, with_reference
from vitedge.bench.reference import Reference, StoredReference
from vitedge.bench.workers.logits import StoredLogits
from vitedge.bench.workers.spool import read_spool, write_spool
from vitedge.errors import DataError
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample, Samples
from vitedge.machine.environment import physical_cores

_FACTS, _INDEX, _BYTES, _LOGITS = "facts.json", "images.jsonl", "images.bin", "reference.f32"


@dataclass(frozen=True)
class Shipment:
    """The files that arrived.

    Attributes:
        data: The images.
        reference: The reference's logits of them, or None.
    """

    data: ImageSet
    reference: StoredReference | None


class SpooledSamples(Samples):
    """Samples whose images lie in a spool; one is read when it is asked for."""

    def __init__(self, index: Path, names: list[str], labels: list[int | None]) -> None:
        self._index, self._names, self._labels = index, names, labels

    def __len__(self) -> int:
        return len(self._names)

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        return next(islice(iter(self), position, None))

    def part(self, of: slice) -> list[Sample]:
        """Read at once, since each is found by reading all before it."""
        return [self.at(each) for each in range(len(self))[of]]

    def __iter__(self) -> Iterator[Sample]:
        images = read_spool(self._index)
        for name, label, image in zip(self._names, self._labels, images, strict=True):
            yield Sample(name, image, label)


def pack(
    data: ImageSet, reference: Reference | None, folder: Path, on_image: Callable[[int], None]
) -> tuple[tuple[Path, ...], str]:
    """Writes everything a device needs to measure accuracy.

    Args:
        data: The images; those that are files are copied as they are.
        reference: Run over them here.
        folder: The folder for the files.
        on_image: Told how many images the reference has seen.

    Returns:
        The files, and the digest of what they hold.

    Raises:
        DataError: There are no images, one of them is missing, or they have ground truth of their
            pixels, which stays here.
        ModelError: The reference cannot be run.
    """
    if any(sample.truth is not None for sample in data.samples):
        raise DataError(
            f"'{data.name}' has ground truth of pixels, which no other device is given: measure "
            "accuracy without --host, and there with images that have none"
        )
    facts: dict[str, object] = {"name": data.name, "class_names": list(data.class_names)}
    if reference is not None:
        facts["reference"] = _write_reference(data, reference, folder / _LOGITS, on_image)
    samples = list(data.samples)
    facts["names"] = [sample.name for sample in samples]
    facts["labels"] = [sample.label for sample in samples]
    write_spool((_with_contents(sample) for sample in samples), folder)
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    digest = hashlib.sha256("".join(sha256_of(path) for path in files).encode())
    return files, digest.hexdigest()


def open_shipment(folder: Path) -> Shipment:
    """Opens what ``pack`` wrote, where it arrived."""
    facts = json.loads((folder / _FACTS).read_text("utf-8"))
    samples = SpooledSamples(folder / _INDEX, facts["names"], facts["labels"])
    data = ImageSet(facts["name"], samples, tuple(facts["class_names"]))
    known = facts.get("reference")
    if known is None:
        return Shipment(data, None)
    logits = StoredLogits(folder / _LOGITS, (len(samples), known["classes"]))
    preprocessing = known["preprocessing"]
    return Shipment(
        data,
        StoredReference(
            known["name"],
            None if preprocessing is None else Preprocessing.from_dict(preprocessing),
            logits,
        ),
    )


def _write_reference(
    data: ImageSet, reference: Reference, output: Path, on_image: Callable[[int], None]
) -> dict[str, object]:
    with temporary_folder("vitedge-reference-") as place:
        images = with_reference(
            spool(data, place, keep=None, machine=""),
            reference,
            threads=physical_cores(),
            timeout_seconds=300.0,
            on_image=on_image,
        )
        if not isinstance(images.reference, StoredLogits):
            raise DataError(f"there are no logits of '{data.name}' to send")
        shutil.copyfile(images.reference.path, output)
        preprocessing = images.preprocessing
        return {
            "name": getattr(reference, "name", None) or str(getattr(reference, "artifact", "")),
            "classes": images.reference.shape[1],
            "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
        }


def _with_contents(sample: Sample) -> Sample:
    if not isinstance(sample.image, (str, Path)):
        return sample
    try:
        return replace(sample, image=Path(sample.image).read_bytes())
    except OSError as error:
        raise DataError(f"cannot read '{sample.image}': {error.strerror or error}") from error
