"""Makes one of our Keras models of any source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitedge.artifacts.metadata import Parity
from vitedge.errors import NotAViTError, UsageError, missing_package
from vitedge.files.keras_archives import save_packed
from vitedge.files.staging import publish, refuse_existing, staging
from vitedge.importers import Imported, ImportOptions
from vitedge.network.network import Network
from vitedge.pipeline.source_check import read_compared
from vitedge.pipeline.token_merging import finds_alike
from vitedge.pipeline.verified_write import Reference, check_parity
from vitedge.quantize.cores import forward_each
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent
from vitedge.terminal.silence import quiet


def import_model(
    source: Path,
    output: Path | None,
    options: ImportOptions,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Reads a model and writes it as one of our Keras models.

    Args:
        source: Any model that an importer reads.
        output: The ``.keras`` file to write; None only reads.
        options: The options that say what the source does not.
        force: An existing output may be overwritten.
        progress: Told how far things are.

    Raises:
        UsageError: The output exists, or is not a ``.keras`` file.
        ModelError: The source cannot be read.
        ParityError: The model that was read, or the Keras model made of it, does not compute what
            the source computes.
        UnavailableError: Keras is not installed.
    """
    if output is not None:
        if output.suffix != ".keras":
            raise UsageError(f"'{output}' must end in .keras")
        refuse_existing([output], force=force)
    progress("reading the model", 0, 2)
    try:
        imported = read_compared(source, options)
    except NotAViTError as error:
        raise NotAViTError(
            f"'{source}' was not read as a vision transformer: "
            f"{error}; `vitedge convert` takes it as it is"
        ) from error
    if output is not None:
        progress(f"writing {output.name}", 1, 2)
        origin = imported.path if imported.origin is None else imported.origin
        write_keras(imported.network, output, origin=origin)
    return imported


def write_keras(network: Network, output: Path, *, origin: str = "") -> None:
    """Writes a network as a Keras model, after proving that the model computes the same.

    Args:
        network: The model.
        output: The ``.keras`` file.
        origin: The way in which it was imported, in words.

    Raises:
        ParityError: The Keras model computes something else.
        UnavailableError: Keras is not installed.
    """
    try:
        with quiet():
            from vitedge.in_keras.model import main_output, to_keras

            model = to_keras(network, origin=origin)
    except ImportError as error:
        raise missing_package(error.name or "keras", "convert") from error
    chooses = finds_alike(network)
    shape = (4 if chooses else 2, *network.image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    made = main_output(network, model(noise.astype(np.float32)))
    reference = Reference(noise, forward_each(network, noise), chooses=chooses)
    judged = reference.judged(made)
    parity = Parity.of(made[judged], reference.outputs[judged], network.task)
    check_parity(parity, Precision.FP32, output.name)
    with staging(output.parent) as folder:
        save_packed(model, folder / output.name)
        publish([folder / output.name], output.parent)
