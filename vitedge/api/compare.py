"""``vitedge.compare``: where an artefact leaves its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vitedge.api.listening import Tell, python_warning
from vitedge.api.models import Model, opened
from vitedge.api.options import SourceOptions, import_options
from vitedge.api.photos import calibration_set, photos_of
from vitedge.images.image_sets import open_images
from vitedge.images.in_memory import Images
from vitedge.inspection.compare import Comparison, compare_layers
from vitedge.terminal.progress import Progress, silent

if TYPE_CHECKING:
    from typing import Unpack


def compare(
    model: Model,
    artifact: str | os.PathLike[str],
    *,
    data: Images | None = None,
    calibration: Images | None = None,
    progress: Progress = silent,
    warn: Tell = python_warning,
    **source: Unpack[SourceOptions],
) -> Comparison:
    """Shows layer by layer how much of a model's signal an artefact keeps.

    The artefact itself runs, in its own runtime. A layer's figure holds its own error and that of
    all layers before it.

    Args:
        model: The model that the artefact was made of: a path, or a Keras model in memory.
        artifact: An artefact that vitedge made.
        data: Images to compare on, of which the first few are taken. None means synthetic ones.
        calibration: The images that the artefact was calibrated on; needed where it was made with
            ``width``, for what remained was fitted to them.
        progress: Told how far things are.
        warn: Told what is odd; by default Python warns.
        **source: See ``SourceOptions``.

    Raises:
        UsageError: vitedge did not make the artefact, or it is of another model.
        ModelError: A file cannot be read.
        DataError: The images cannot be used.
    """
    photos = photos_of(data)
    images = None if photos is None else open_images(photos)
    fitted_to = calibration_set(calibration)
    with opened(model, import_options(source, warn)) as found:
        return compare_layers(
            found.path,
            Path(artifact),
            found.importing,
            images=images,
            calibration=fitted_to,
            progress=progress,
        )
