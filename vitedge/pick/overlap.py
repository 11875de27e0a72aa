"""Whether an artefact would be measured on images that it was calibrated on."""

from __future__ import annotations

from vitedge.errors import DataError
from vitedge.images.image_digests import digest_of, size_of
from vitedge.images.image_sets import ImageSet

_SHOWN = 3


def refuse_overlap(calibration: ImageSet, evaluation: ImageSet) -> None:
    """Refuses to measure on images that ranges are fitted to: their accuracy is too high.

    Images count as the same when their bytes are, whatever their names.

    Raises:
        DataError: Some image is in both sets, or one cannot be read from the disk.
    """
    try:
        sizes = {size_of(sample.image) for sample in calibration.samples}
        used = {digest_of(sample.image) for sample in calibration.samples}
        shared = [
            sample.name
            for sample in evaluation.samples
            # Few images are of the same size to the byte, so few are read.
            if size_of(sample.image) in sizes and digest_of(sample.image) in used
        ]
    except OSError as error:
        raise DataError(f"cannot read '{error.filename}' ({error.strerror})") from error
    if shared:
        names = ", ".join(f"'{name}'" for name in shared[:_SHOWN])
        more = ", ..." if len(shared) > _SHOWN else ""
        raise DataError(
            f"{len(shared)} of {len(evaluation.samples)} images of '{evaluation.name}' are also in "
            f"the calibration set '{calibration.name}' ({names}{more}): accuracy on them is too "
            "high; "
            "calibrate on other images"
        )
