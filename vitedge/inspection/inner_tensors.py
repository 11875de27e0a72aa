"""The inner tensors of an artefact by name, computed in its own runtime.

A copy of the file gets the wanted tensors as further outputs, so that what runs is what always
runs, fusions and all, but for those that the new outputs forbid.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import format_of
from vitedge.converters.tools import tools_of
from vitedge.errors import ModelError, first_line, missing_package
from vitedge.network.operators import Array
from vitedge.terminal.silence import quiet


def intermediates(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """Tensors of an artefact of batch 1, float32, the first axis that of the images.

    Args:
        path: The artefact.
        names: Tensors that are wanted; those that it does not have are left out.
        pixels: uint8 ``(N, H, W, C)``.

    Raises:
        UnavailableError: A package that the format needs is not installed.
        ModelError: Its engine cannot load or run it.
    """
    run = tools_of(format_of(path)).inner_tensors
    try:
        with quiet():
            found = [run(path, names, image[None]) for image in pixels]
    except ImportError as error:
        raise missing_package(error.name or str(format_of(path)), "convert") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"cannot run '{path}' here: {first_line(error)}") from error
    return {name: np.stack([each[name] for each in found]) for name in found[0]}
