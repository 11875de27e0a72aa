"""``--max-drop``: as few layers out of 8 bits as an accuracy budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.converter import Draft
from vitedge.errors import BudgetError
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format

# Images that are preprocessed at a time.
_CHUNK = 16


@dataclass(frozen=True)
class DropBudget:
    """What an artefact may lose.

    Attributes:
        max_drop: Points of top-1 accuracy against the float32 artefact of the same format, or,
            where images are without labels, of agreement with it.
        images: What that is measured on.
    """

    max_drop: float
    images: ImageSet


class TopClasses:
    """The top class of each image by drafts of artefacts, in the format's own runtime."""

    def __init__(self, budget: DropBudget, preprocessing: Preprocessing, target: Format) -> None:
        self._samples = budget.images.samples
        self._preprocessing, self._target = preprocessing, target

    def of(self, draft: Draft, metadata: Metadata) -> npt.NDArray[np.intp]:
        """Classes ``(N,)``; the draft is saved to a temporary folder and run."""
        target = self._target.default_target
        with temporary_folder() as folder:
            path = folder / f"candidate{self._target.suffix}"
            draft.save(path, metadata)
            session = runtime_for(target).open(path, target.device)
            try:
                found = [run_batches(session, pixels).argmax(axis=1) for pixels in self._chunks()]
            finally:
                session.close()
        return np.concatenate(found)

    def _chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(self._samples), _CHUNK):
            chunk = self._samples[start : start + _CHUNK]
            yield self._preprocessing.batch([sample.image for sample in chunk])

    def drop(self, floats: npt.NDArray[np.intp], found: npt.NDArray[np.intp]) -> float:
        """Points lost from one to the other: of accuracy with labels, else of agreement."""
        labels = [sample.label for sample in self._samples]
        if any(label is None for label in labels):
            return float(100 * (floats != found).mean())
        truth = np.asarray(labels)
        return float(100 * ((floats == truth).mean() - (found == truth).mean()))


class KeptInFloat(NamedTuple):
    """Layers that stay out of 8 or 4 bits, and what is lost all the same, in points."""

    layers: tuple[str, ...]
    lost: float


def fewest_lifted(
    rank: Callable[[], Sequence[str]],
    drop: Callable[[Sequence[str]], float],
    max_drop: float,
    name: str,
) -> KeptInFloat:
    """The shortest beginning of a ranking whose lifting keeps the budget.

    It is found by halving, so that some seven artefacts are measured and not one for each layer.

    Args:
        rank: Gives layers, the costliest first; called when something has to be lifted.
        drop: Points lost when those layers are lifted.
        max_drop: Points that may be lost.
        name: Of the artefact, for the message.

    Raises:
        BudgetError: Even with every layer lifted too much is lost.
    """
    if (lost := drop(())) <= max_drop:
        return KeptInFloat((), lost)
    ranking = rank()
    if not ranking or (best := drop(ranking)) > max_drop:
        still = f", and still {best:.2f} with all {len(ranking)} layers lifted" if ranking else ""
        raise BudgetError(
            f"{name} loses {lost:.2f} points{still}; --max-drop allows {max_drop:g}. It was not "
            "written; take a higher precision or a larger budget"
        )
    short, enough = 0, len(ranking)
    while enough - short > 1:
        middle = (short + enough) // 2
        if (lost := drop(ranking[:middle])) <= max_drop:
            enough, best = middle, lost
        else:
            short = middle
    return KeptInFloat(tuple(ranking[:enough]), best)
