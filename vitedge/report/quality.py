"""The quality of a row's logits: against labels, and against the reference's.

Every share is in percent, 0..100.
"""

from __future__ import annotations

from dataclasses import dataclass


def in_digits(value: float, bound: float) -> str:
    """A value in four digits, or in as many more as lie on the same side of a bound."""
    digits = 4
    while _side(float(f"{value:.{digits}g}"), bound) != _side(value, bound):
        digits += 1
    return f"{value:.{digits}g}"


def _side(value: float, bound: float) -> tuple[bool, bool]:
    return value < bound, value > bound


@dataclass(frozen=True)
class Accuracy:
    """Top classes against labels.

    Attributes:
        top1: Percent of images whose best class is the label.
        top5: Percent of images whose label is among the best five.
        n: Labelled images.
        top1_low: Lower end of the 95 % Wilson interval of ``top1``.
        top1_high: Upper end.
        right: One bit for each image of the set, first image in the highest bit of the first byte:
            whether its best class is the label; in base64. Two reports on the same images are
            compared image by image with it.
    """

    top1: float
    top5: float
    n: int
    top1_low: float
    top1_high: float
    right: str = ""


@dataclass(frozen=True)
class Preparation:
    """Images prepared as apps on the target do it, against the same images prepared by Pillow.

    In a browser, a canvas decodes and JavaScript resizes and crops.

    Attributes:
        agreement: Percent of images with the same top class.
        largest_difference: The largest difference of any pixel, in steps of 255.
        mean_difference: The mean difference of all pixels, in steps of 255.
        n: Images compared.
    """

    agreement: float
    largest_difference: int
    mean_difference: float
    n: int


@dataclass(frozen=True)
class Drop:
    """Top-1 lost against another artefact on the same images, in percentage points.

    Attributes:
        points: Share that only the other has right, less the share that only this one has;
            negative where accuracy was won.
        low: Lower end of the 95 % interval (Agresti & Min, 2005, doi:10.1002/sim.1781).
        high: Upper end.
        n: Labelled images.
    """

    points: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """One image on which the artefact differs from the reference.

    Attributes:
        image: Its name.
        reference: The reference's top class.
        artifact: The artefact's top class.
        label: The true class, or None.
        max_difference: Largest absolute difference of any logit.
    """

    image: str
    reference: str
    artifact: str
    label: str | None
    max_difference: float


@dataclass(frozen=True)
class Confusion:
    """Two classes of which the artefact names one where the reference names the other.

    Attributes:
        reference: The class that the reference names.
        artifact: The class that the artefact names.
        n: The number of such images.
        images: Names of the most different of them.
    """

    reference: str
    artifact: str
    n: int
    images: tuple[str, ...]


@dataclass(frozen=True)
class VsFloat:
    """Logits against the reference's.

    Attributes:
        agreement: Percent of images with the same top class.
        sqnr_db: Power of the reference's logits over power of the difference, in decibel; None
            when they are equal to the bit.
        n: Images compared.
        flips: Images whose top class differs; the most different first, at most a few dozen.
        flipped: The number of images whose top class differs.
        newly_wrong: Images that only the reference classifies right; None without labels.
        newly_right: Images that only the artefact classifies right; None without labels.
        worst: The images with the largest difference of any logit, flipped or not.
        drop: The cost of the flips in top-1; None without labels.
        confusions: The pairs of classes that were confused, the most frequent first, at most a
            dozen.
        same_pixels: Whether the reference prepares images as the artefact does.
    """

    agreement: float
    sqnr_db: float | None
    n: int
    flips: tuple[Difference, ...] = ()
    flipped: int = 0
    newly_wrong: int | None = None
    newly_right: int | None = None
    worst: tuple[Difference, ...] = ()
    drop: Drop | None = None
    confusions: tuple[Confusion, ...] = ()
    same_pixels: bool = True


@dataclass(frozen=True)
class TaskMeasure:
    """One measure of outputs that are not classes.

    Attributes:
        name: The name in tables: ``mAP``, ``recall@1``.
        value: The value of the measure.
        unit: ``%``, or empty.
        of: The basis of the measure: ``labels`` or ``float32``.
    """

    name: str
    value: float
    unit: str
    of: str

    @property
    def title(self) -> str:
        """The name with its unit."""
        return f"{self.name} {self.unit}".strip()

    @property
    def shown(self) -> str:
        """The value in four digits, or in more where these do not tell it from 1."""
        return in_digits(self.value, 1.0)


@dataclass(frozen=True)
class TaskQuality:
    """The quality of the outputs of a model that names no classes.

    Attributes:
        task: The meaning of the outputs.
        n: Images compared.
        sqnr_db: Power of the reference's outputs over power of the difference, in decibel; None
            when they are equal to the bit.
        measures: The measures, in the task's own words.
        drop: Points lost against the float32 reference.
        drop_of: Name of the measure that the points are of; of an error and of R² they are percent.
        same_pixels: Whether the reference prepares images as the artefact does.
    """

    task: str
    n: int
    sqnr_db: float | None
    measures: tuple[TaskMeasure, ...]
    drop: Drop
    drop_of: str
    same_pixels: bool = True
