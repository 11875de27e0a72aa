"""Reading a model and comparing its logits with its source's, wherever the source can be run."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitedge.artifacts.metadata import Parity
from vitedge.errors import ModelError, ParityError, UnavailableError, missing_package
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.importers.lift.ending import read_ending
from vitedge.importers.lift.input_range import InputRange, input_range
from vitedge.importers.lift.keras_files import is_keras_network, open_keras_model
from vitedge.importers.lift.probe import Experiments
from vitedge.importers.lift.proof import Proof, compare_logits
from vitedge.network.network import Network
from vitedge.pipeline.verified_write import check_parity
from vitedge.quantize.cores import forward_each
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import Progress, silent
from vitedge.terminal.silence import quiet


def read_compared(source: Path, options: ImportOptions) -> Imported:
    """Reads a model; one that was read by its names is compared with its source, or says why not.

    What was lifted was compared already. Our own format was compared when it was written.

    Returns:
        The model; its ``path`` says how far its logits are from the source's, or why that is
        unknown.

    Raises:
        NotAViTError: The model is not a vision transformer.
        ModelError: The source cannot be read.
        ParityError: The source computes something else.
    """
    imported = read_model(source, options)
    if not imported.proof and imported.origin is None:
        found = _against_source(source, imported.network, options)
        if isinstance(found, Proof):
            imported = replace(imported, path=f"{imported.path}, {found}", proof=str(found))
        else:
            imported = replace(imported, path=f"{imported.path}, logits not compared: {found}")
    gc.collect()  # Keras models refer to themselves, and would keep the source's weights
    return imported


@dataclass(frozen=True)
class Checked:
    """A model that was read, and what was found out about it.

    Attributes:
        imported: The model.
        findings: The checks that were made, a sentence each.
    """

    imported: Imported
    findings: tuple[str, ...]


def check_source(source: Path, options: ImportOptions, *, progress: Progress = silent) -> Checked:
    """Reads a model, and compares its logits with those of whatever can be run.

    Args:
        source: Any model that an importer reads.
        options: The options that say what the source does not, and the images to compare on.
        progress: Told how far things are.

    Raises:
        ModelError: The source cannot be read.
        ParityError: The source, or the Keras model made of it, computes something else.
        UnavailableError: Keras is not installed.
    """
    progress("reading the model", 0, 3)
    imported = read_model(source, options)
    progress("running the source", 1, 3)
    findings = []
    if imported.proof:
        findings.append(f"the source was run: {imported.proof}")
    else:
        findings.append("every tensor of the source found its place by name, and all shapes agree")
        found = _against_source(source, imported.network, options)
        ran = isinstance(found, Proof)
        findings.append(f"the source was {'run' if ran else 'not run'}: {found}")
    progress("making a Keras model", 2, 3)
    findings.append(_round_trip(imported.network, options))
    progress("done", 3, 3)
    return Checked(imported, tuple(findings))


def _against_source(source: Path, network: Network, options: ImportOptions) -> Proof | str:
    """Runs a source that was read by its names; says why where that cannot be.

    Raises:
        ParityError: The network does not compute what the source computes.
    """
    if not is_keras_network(source):
        return "it holds weights, and no network to compute logits with"
    if options.image_size is not None:
        return "--image-size makes a model of other positions"
    try:
        loaded = open_keras_model(
            source,
            custom_objects=options.custom_objects,
            trust=options.trust,
            image_size=network.preprocessing.size,
            logits=options.logits,
        )
        experiments = Experiments(loaded.probe())
        ending = read_ending(experiments, network.task)
        if ending.before is not None:
            experiments.end_at(ending.before)
        taken = _taken(experiments, network.preprocessing)
        proof = compare_logits(experiments, network, taken, options.images)
    except (ModelError, UnavailableError) as error:
        return str(error).replace(f"'{source}'", "it")  # artefacts repeat it elsewhere
    if not proof.holds:
        raise ParityError(
            f"'{source}' was read by its names, but computes something else: {proof}; is an option "
            "wrong (--heads, --activation), or was it changed since its library made it?"
        )
    return proof


def _taken(experiments: Experiments, preprocessing: Preprocessing) -> InputRange:
    """The source's input: by its own arithmetic, else as its kind is known to take it."""
    found = input_range(experiments)
    if not found.assumed:
        return found
    return input_range(experiments, preprocessing.mean, preprocessing.std)


def _round_trip(network: Network, options: ImportOptions) -> str:
    """Compares the Keras model that ``import`` would write with the canonical form."""
    try:
        with quiet():
            from vitedge.in_keras.model import main_output, to_keras

            model = to_keras(network)
    except ImportError as error:
        raise missing_package(error.name or "keras", "convert") from error
    shape = (2, *network.image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels = np.concatenate([noise, network.preprocessing.batch(options.images)]).astype(np.float32)
    made = np.concatenate([main_output(network, model(image[None])) for image in pixels])
    parity = Parity.of(made, forward_each(network, pixels), network.task)
    check_parity(parity, Precision.FP32, "the Keras model")
    real = f" and {len(options.images)} real" if options.images else ""
    return (
        f"as a Keras model it gives the same logits: {parity.relative_difference:.1g} of their "
        f"range on {len(noise)} random{real} images"
    )
