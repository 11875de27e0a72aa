"""A model that is not a vision transformer, opened: its images, its labels, its own answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.generic.network import Answer, Network, has_attention
from vitedge.converters.generic.onnx_network import OnnxNetwork
from vitedge.converters.generic.tensorflow_network import TensorFlowNetwork
from vitedge.errors import ModelError, UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.lift.augmentation import augmentation_words
from vitedge.importers.lift.embedding import as_model_input, channels_first
from vitedge.importers.lift.ending import Ending, read_ending
from vitedge.importers.lift.input_range import InputRange, input_range
from vitedge.importers.lift.joined_outputs import left_out_words
from vitedge.importers.lift.keras_files import SAVED_MODEL, keras_config, open_keras_model
from vitedge.importers.lift.probe import Experiments
from vitedge.network.tasks import Task

_OF_A_VIT = ("heads", "activation", "norm_eps")
"""Options that say something about a vision transformer's layers."""


@dataclass(frozen=True)
class GenericModel:
    """A model with everything that an artefact says about it.

    Attributes:
        network: The source.
        experiments: Access to it in its own engine, up to what artefacts give.
        taken: The input that the model takes.
        preprocessing: The steps from an image to pixels.
        labels: One name per class, or empty.
        ending: The meaning of its outputs, and the operators that are removed at its end.
        left_out: The parts of the source that take no part in the outputs, in words.
    """

    network: Network
    experiments: Experiments
    taken: InputRange
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    ending: Ending
    left_out: str = ""

    @property
    def task(self) -> Task:
        """The meaning of its outputs."""
        return self.ending.task

    @property
    def classes(self) -> int:
        """Number of logits; 0 where there are none."""
        return self.network.answer.shape[-1] if self.task.has_logits else 0

    @property
    def attends(self) -> bool:
        """Whether there is attention inside."""
        return has_attention(self.experiments.graph)

    @property
    def words(self) -> str:
        """The assumptions and changes, for reports."""
        parts = (f"input {self.taken.words}", self.ending.words, self.left_out)
        return ", ".join(filter(None, parts))

    def outputs(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The source's own answers, by its own engine.

        Args:
            pixels: 0..255, ``(N, H, W, C)``.

        Returns:
            float32 ``(N, classes)``, or as the task has it.
        """
        graph, shape = self.experiments.graph, self.experiments.probe.image_shape
        run = self.experiments.between([graph.image], [graph.output])
        size = self.experiments.batch_for(1)
        answers = []
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            image = as_model_input(self.taken.apply(padded.astype(np.float32)), shape)
            answers.append(self.network.answer.of(run(image)[0])[: len(part)])
        return np.concatenate(answers)


def open_generic(path: Path, options: ImportOptions) -> GenericModel:
    """Opens any Keras model, SavedModel or ONNX file.

    Raises:
        ModelError: The model is damaged, or does not say what its outputs mean.
        UsageError: An option speaks of layers that only a vision transformer has.
    """
    for name in _OF_A_VIT:
        if getattr(options, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} is about vision transformers, and '{path}' is not one")
    network = _open_network(path, options)
    experiments = Experiments(network.probe)
    try:
        ending = read_ending(experiments, options.task)
    except ModelError as error:
        raise ModelError(str(error).replace("the model", f"'{path}'", 1)) from error
    network.answer = Answer.of_model(
        ending, experiments.shape(experiments.graph.output).per_image, network.probe.image_shape
    )
    if ending.before is not None:
        experiments.end_at(ending.before)
    taken = input_range(experiments, options.mean, options.std)
    preprocessing = _preprocessing(network.probe.image_shape, taken, options)
    labels = options.labels or ()
    counts = ending.task.label_counts(network.answer.shape)
    if labels and len(labels) not in counts:
        wanted = " or ".join(map(str, counts))
        raise ModelError(f"there are {len(labels)} labels for {wanted} {ending.task} of '{path}'")
    ignored = left_out_words(network.left_out, can_be_given=False)
    left_out = ", ".join(filter(None, (augmentation_words(path), ignored)))
    return GenericModel(network, experiments, taken, preprocessing, labels, ending, left_out)


def _open_network(path: Path, options: ImportOptions) -> Network:
    if (path / SAVED_MODEL).is_file() or keras_config(path) is not None:
        loaded = open_keras_model(
            path,
            custom_objects=options.custom_objects,
            trust=options.trust,
            image_size=options.image_size,
            logits=options.logits,
        )
        return TensorFlowNetwork(loaded)
    if path.suffix.lower() == ".onnx":
        return OnnxNetwork(path, image_size=options.image_size, logits=options.logits)
    raise ModelError(
        f"'{path}' holds weights but no graph; give the model itself: "
        ".keras, .h5, a SavedModel or .onnx"
    )


def _preprocessing(
    shape: tuple[int, int, int], taken: InputRange, options: ImportOptions
) -> Preprocessing:
    height, width, channels = (*shape[1:], shape[0]) if channels_first(shape) else shape
    if options.image_size not in (None, (height, width)):
        raise ModelError(f"the model takes {height} x {width} pixels, and that is fixed")
    try:
        stretched = Preprocessing((height, width), channels, mean=taken.mean, std=taken.std)
        return replace(
            stretched,
            resize=options.resize or None,
            interpolation=options.interpolation or stretched.interpolation,
        )
    except ValueError as error:
        raise ModelError(f"images cannot be prepared for the model: {error}") from error
