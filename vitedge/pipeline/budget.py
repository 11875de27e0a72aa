"""``--max-drop``: as few layers out of 8 bits as an accuracy budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata
from vitedge.bench.accuracy import Truth
from vitedge.bench.by_task import quality_of
from vitedge.bench.spread import paired_drop
from vitedge.converters.converter import Draft
from vitedge.errors import BudgetError
from vitedge.files.temporary import temporary_folder
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.true_maps import Grid
from vitedge.network.tasks import Task
from vitedge.quantize.halving import fewest
from vitedge.report.quality import Drop
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format

# Images that are preprocessed at a time.
_CHUNK = 16


@dataclass(frozen=True)
class DropBudget:
    """The loss that an artefact may have.

    Attributes:
        max_drop: Points of top-1 accuracy against the float32 artefact of the same format, or,
            where images are without labels, of agreement with it.
        images: The images that the loss is measured on.
    """

    max_drop: float
    images: ImageSet


class Outputs:
    """The outputs of drafts for each image, in the format's own runtime."""

    def __init__(self, budget: DropBudget, preprocessing: Preprocessing, target: Format) -> None:
        self._samples = budget.images.samples
        self._preprocessing, self._target = preprocessing, target
        self._shape: tuple[int, ...] = ()  # of one image's output, once there was one

    def of(self, draft: Draft, metadata: Metadata) -> npt.NDArray[np.float32]:
        """Outputs ``(N, numbers)``; the draft is saved to a temporary folder and run."""
        target = self._target.default_target
        with temporary_folder() as folder:
            path = folder / f"candidate{self._target.suffix}"
            draft.save(path, metadata)
            session = runtime_for(target).open(path, target.device)
            try:
                found = np.concatenate([run_batches(session, each) for each in self._chunks()])
            finally:
                session.close()
        self._shape = found.shape[1:]
        return found.reshape(len(found), -1)

    def _chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(self._samples), _CHUNK):
            chunk = self._samples[start : start + _CHUNK]
            yield self._preprocessing.batch([sample.image for sample in chunk])

    def drop(
        self,
        floats: npt.NDArray[np.float32],
        found: npt.NDArray[np.float32],
        task: Task,
        middle: float,
    ) -> float:
        """Points lost from one to the other; see ``paired``."""
        return self.paired(floats, found, task, middle).points

    def paired(
        self,
        floats: npt.NDArray[np.float32],
        found: npt.NDArray[np.float32],
        task: Task,
        middle: float,
    ) -> Drop:
        """Points lost from one to the other: of accuracy with labels, else of agreement.

        Of other tasks they are those of the bench's measure.

        Args:
            floats: The outputs of the float32 artefact.
            found: The outputs of the other artefact.
            task: The meaning of the outputs.
            middle: The score of a label that is as likely right as wrong.
        """
        labels = [sample.label for sample in self._samples]
        truth = np.asarray([-1 if label is None else label for label in labels], np.int64)
        if task not in (Task.CLASSES, Task.BINARY):
            known = Truth.of(self._samples)
            grid = Grid(self._preprocessing, self._shape)
            quality = quality_of(task, found, floats, known, middle=middle, grid=grid)
            assert quality is not None
            return quality.drop
        before, now = (_answers(each, task, middle) for each in (floats, found))
        if (truth < 0).any():
            return paired_drop(int((before != now).sum()), 0, len(truth))
        was_right, is_right = before == truth, now == truth
        wrong, right = (was_right & ~is_right).sum(), (is_right & ~was_right).sum()
        return paired_drop(int(wrong), int(right), len(truth))


def _answers(scores: npt.NDArray[np.float32], task: Task, middle: float) -> npt.NDArray[np.intp]:
    """The class of each image; of yes or no 1 or 0."""
    if task is Task.BINARY:
        return np.asarray(scores[:, 0] > middle, np.intp)
    return np.asarray(scores.argmax(axis=1), np.intp)


class KeptInFloat(NamedTuple):
    """Layers that stay out of 8 or 4 bits, and what is lost nevertheless, in points."""

    layers: tuple[str, ...]
    lost: float


def fewest_lifted(
    rank: Callable[[], Sequence[str]],
    drop: Callable[[Sequence[str]], float],
    max_drop: float,
    name: str,
) -> KeptInFloat:
    """The shortest beginning of a ranking whose lifting keeps the budget.

    It is found by halving: some seven artefacts are measured and not one for each layer.

    Args:
        rank: Gives layers, the costliest first; called when something has to be lifted.
        drop: Points lost when those layers are lifted.
        max_drop: Points that may be lost.
        name: The name of the artefact, for the message.

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
    lost_with = {len(ranking): best}

    def is_enough(count: int) -> bool:
        lost_with[count] = drop(ranking[:count])
        return lost_with[count] <= max_drop

    enough = fewest(len(ranking), is_enough)
    return KeptInFloat(tuple(ranking[:enough]), lost_with[enough])
