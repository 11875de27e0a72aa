"""Opens Keras models and SavedModels, whoever wrote them."""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.errors import (
    ModelError,
    SizeError,
    UnavailableError,
    VitedgeError,
    first_line,
    missing_package,
)
from vitedge.files.hdf5_storage import open_contained
from vitedge.files.json_values import parse_object
from vitedge.files.keras_archives import Container, container_of, unpacked
from vitedge.files.zip_members import read_text
from vitedge.importers.lift.claims import bounded_weights
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.keras_handover import (
    CONFIG,
    METADATA,
    checked_preset,
    handed_over,
    without_compiling,
)
from vitedge.importers.lift.keras_safety import custom_object_flags, load_custom_objects
from vitedge.importers.lift.probe import refuse_large_images
from vitedge.importers.lift.quantized import refuse_quantized_layers
from vitedge.importers.lift.saved_model_safety import checked_copy
from vitedge.importers.lift.tensorflow_outputs import select_logits
from vitedge.importers.lift.tensorflow_probe import TensorFlowProbe
from vitedge.terminal.silence import quiet

SAVED_MODEL = "saved_model.pb"

_PRESET = "task.json"

_SERVED = "serving_default"


@dataclass(frozen=True)
class KerasConfig:
    """A Keras file's description of its model, without its weights.

    Attributes:
        container: The kind of file.
        model: The model's config, without losses, metrics and optimizers.
        version: The version of Keras that wrote it.
    """

    container: Container
    model: Mapping[str, Any]
    version: str


def keras_config(path: Path) -> KerasConfig | None:
    """Reads the config of a ``.keras`` or a whole-model ``.h5`` file; None for any other file.

    Raises:
        SizeError: The file would take more memory than the bound on sources.
    """
    container = container_of(path)
    if container is None:
        return None
    try:
        read = _hdf5_config if container is Container.HDF5 else _archived_config
        config, version = read(path)
    except SizeError:
        raise
    except Exception:  # zipfile and h5py raise anything on damaged files
        return None
    return KerasConfig(container, config, version) if isinstance(config, dict) else None


def _archived_config(path: Path) -> tuple[Any, str]:
    with zipfile.ZipFile(path) as archive:
        config = parse_object(read_text(archive, CONFIG))
        metadata = parse_object(read_text(archive, METADATA))
    return without_compiling(config), str(metadata.get("keras_version", ""))


def _hdf5_config(path: Path) -> tuple[Any, str]:
    with open_contained(str(path), path) as file:
        version = file.attrs.get("keras_version", "")
        config = file.attrs["model_config"]

    def text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    return parse_object(text(config)), text(version)


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, as a function that TensorFlow can trace.

    Attributes:
        selected: Maps images ``(N, *image_shape)`` to logits ``(N, classes)``, and to the names of
            the outputs that are left out.
        image_shape: Shape of one image.
        batch: The only batch size it takes, or None.
        dtype: TensorFlow's name of the input's type.
        parameters: Number of weights.
        left_out: The names of the outputs that are left out; known once the model was traced.
    """

    selected: Callable[[Any], tuple[Any, tuple[str, ...]]]
    image_shape: tuple[int, int, int]
    batch: int | None
    dtype: str
    parameters: int
    left_out: list[str] = field(default_factory=list)

    def logits(self, image: Any) -> Any:
        """Maps images ``(N, *image_shape)`` to logits ``(N, classes)``."""
        logits, self.left_out[:] = self.selected(image)
        return logits

    def probe(self) -> TensorFlowProbe:
        """Traces the model.

        Raises:
            ModelError: TensorFlow cannot.
        """
        damage = (TypeError, ValueError, AttributeError, LookupError, _tensorflow().errors.OpError)
        first: Exception | None = None
        for size in dict.fromkeys([self.batch, self.batch or 1]):
            try:
                return TensorFlowProbe(self.logits, self.image_shape, size, self.dtype)
            except damage as error:
                # Layers that read the batch size off `inputs.shape` need a fixed one.
                first = first or error
        assert first is not None
        raise ModelError(f"TensorFlow cannot trace the model: {first_line(first)}") from first


def open_keras_model(
    path: Path,
    *,
    custom_objects: Sequence[str] = (),
    trust: bool = False,
    image_size: tuple[int, int] | None = None,
    logits: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> LoadedModel:
    """Loads the folder of a SavedModel or of KerasHub, a ``.keras`` or an ``.h5`` file.

    Args:
        path: The file or folder.
        custom_objects: ``module:name`` of the user's layers.
        trust: Code inside the file may run.
        image_size: Height and width, where the model leaves them open.
        logits: Names of the outputs that hold the logits; several are averaged.
        beside: Names of further outputs, which are joined with the logits.

    Raises:
        ModelError: The file is damaged, needs code that was not given, or is not an image model.
        UsageError: A custom object cannot be imported.
        UnavailableError: Keras is missing, or runs on another backend than TensorFlow.
    """
    if (path / _PRESET).is_file():
        return open_preset(path, trust=trust)
    if path.is_dir():
        return open_saved_model(
            path, trust=trust, image_size=image_size, wanted=logits, beside=beside
        )
    return open_keras(
        path,
        custom_objects=custom_objects,
        trust=trust,
        image_size=image_size,
        logits=logits,
        beside=beside,
    )


def open_keras(
    path: Path,
    *,
    custom_objects: Sequence[str] = (),
    trust: bool = False,
    image_size: tuple[int, int] | None = None,
    logits: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> LoadedModel:
    """Loads a ``.keras`` or ``.h5`` model.

    Args:
        path: The file.
        custom_objects: ``module:name`` of the user's layers.
        trust: Code inside the file may run, and whatever it names may be made.
        image_size: Height and width, where the model leaves them open.
        logits: Names of the outputs that hold the logits; several are averaged.
        beside: Names of further outputs, which are joined with the logits.

    Raises:
        ModelError: The file is damaged, needs code that was not given, or is not an image model.
        UsageError: A custom object cannot be imported.
        UnavailableError: Keras is missing, or runs on another backend than TensorFlow.
    """
    config = keras_config(path)
    if config is None:
        raise ModelError(f"'{path}' is truncated or holds no Keras model")
    refuse_quantized_layers(path, config.model)
    findings, objects = load_custom_objects(path, config.model, custom_objects, trust=trust)
    failure: Exception | None = None
    old = config.version.startswith("2")
    for library in _libraries(config, keras_2_only=bool(findings.keras_2)):
        try:
            model = _load(library, path, config, objects, trust=trust)
        except VitedgeError:
            raise
        except Exception as error:  # a layer may raise anything
            failure = failure or error
        else:
            return _loaded(model, image_size, logits, beside)
    if old and importlib.util.find_spec("tf_keras") is None:
        named = f" (its layer '{findings.keras_2[0]}')" if findings.keras_2 else ""
        raise ModelError(
            f"'{path}' is of Keras 2, and Keras 3 cannot load it{named}; run: pip install tf-keras"
        ) from failure
    if failure is None:  # nothing that is installed could load it
        raise ModelError(
            f"'{path}' is damaged: its layer '{findings.keras_2[0]}' is of Keras 2, but the "
            f"version of Keras in it is '{config.version}'"
        )
    reason = first_line(failure)
    hint = "; where you can, save it as .keras" if config.container is Container.HDF5 else ""
    if findings.custom:
        hint = f"; add {custom_object_flags(findings)}"
    raise ModelError(f"Keras cannot load '{path}': {reason}{hint}") from failure


def is_keras_network(path: Path) -> bool:
    """Whether a source holds a network, not only weights, that ``open_keras_model`` loads.

    Reads headers only.
    """
    folder = (path / SAVED_MODEL).is_file() or (path / _PRESET).is_file()
    return folder or keras_config(path) is not None


def open_preset(path: Path, *, trust: bool = False) -> LoadedModel:
    """Loads a classifier that KerasHub saved as a preset's folder.

    Args:
        path: The folder.
        trust: Whatever it names may be made.

    Raises:
        ModelError: The file is damaged, or needs trust.
        UnavailableError: KerasHub is missing.
    """
    _tensorflow()
    try:
        with quiet():
            import keras
            import keras_hub
    except ImportError as error:
        raise UnavailableError(
            f"'{path}' is a preset of KerasHub, which is not installed", "pip install keras-hub"
        ) from error
    try:
        with (
            bounded_weights(keras.layers.Layer, path),
            nullcontext(path) if trust else checked_preset(path) as source,
        ):
            model = keras_hub.models.ImageClassifier.from_preset(str(source))
    except VitedgeError:
        raise
    except Exception as error:  # as of any layer
        raise ModelError(f"KerasHub cannot load '{path}': {first_line(error)}") from error
    return _loaded(model, None)


def _load(
    library: Any, path: Path, config: KerasConfig, objects: Mapping[str, Any], *, trust: bool
) -> Any:
    options = {"custom_objects": objects, "compile": False, "safe_mode": not trust}
    is_keras_2 = library.__name__ != "keras"
    bound = bounded_weights(library.layers.Layer, path)
    if trust:  # assets and all
        with bound, nullcontext(path) if is_keras_2 else unpacked(path) as source:
            return library.models.load_model(source, **options)
    with (
        bound,
        handed_over(path, config.container, config.model, zipped=is_keras_2) as source,
        _safe_mode(library) if is_keras_2 else nullcontext(),
    ):
        return library.models.load_model(source, **options)


def _safe_mode(library: Any) -> Any:
    """Keras 2 has its safe mode for archives alone; this is the same for HDF5."""
    name = f"{library.__name__}.src.saving.serialization_lib"
    return importlib.import_module(name).SafeModeScope(True)


def _libraries(config: KerasConfig, *, keras_2_only: bool) -> list[Any]:
    """Keras 3 and, for files of Keras 2, its successor of that name where it is installed."""
    try:
        with quiet():
            import keras
    except ImportError as error:
        raise missing_package("keras", "convert") from error
    if keras.backend.backend() != "tensorflow":
        raise UnavailableError(
            f"lifting needs Keras on TensorFlow, but it runs on {keras.backend.backend()}",
            "Set the environment variable KERAS_BACKEND=tensorflow",
        )
    _tensorflow()
    libraries = [] if keras_2_only else [keras]
    if config.version.startswith("2") and importlib.util.find_spec("tf_keras"):
        libraries.append(importlib.import_module("tf_keras"))
    return libraries


def _tensorflow() -> Any:
    """TensorFlow, after what it has to say about drivers that are not here, which it says once."""
    try:
        with quiet():
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
    except ImportError as error:
        raise missing_package("tensorflow", "convert") from error
    return tf


def _loaded(
    model: Any,
    image_size: tuple[int, int] | None,
    wanted: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> LoadedModel:
    """A Keras model, once it is sure that it maps one image to logits."""
    shape, dtype = _input(model)
    batch, sizes = _sizes("the model", shape, image_size)
    _refuse_nan(model.weights)

    names = [str(name) for name in getattr(model, "output_names", None) or ()]

    def selected(image: Any) -> tuple[Any, tuple[str, ...]]:
        with warnings.catch_warnings():
            # Keras wants the image by the name of its input, where a model was made with one.
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match")
            outputs = model(image, training=False)
        return select_logits(outputs, wanted, names, beside)

    return LoadedModel(selected, sizes, batch, dtype, _count(model.weights))


def _refuse_nan(variables: Sequence[Any]) -> None:
    """Refuses weights that are NaN; infinity may be the constant of an attention mask."""
    for variable in variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and np.isnan(values).any():
            name = getattr(variable, "path", None) or variable.name
            raise ModelError(
                f"the weights '{name}' hold NaN: the training that made them diverged, or the "
                "file is damaged"
            )


def _count(variables: Sequence[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _sizes(
    what: str, shape: Sequence[int | None], image_size: tuple[int, int] | None
) -> tuple[int | None, tuple[int, int, int]]:
    """The batch size, or None, and the shape of one image.

    Raises:
        ModelError: Sizes are open, or it is not an image.
        SizeError: The model takes images that are too large.
    """
    if len(shape) != 4:
        raise ModelError(f"{what} takes {tuple(shape)}; one image with channels last is needed")
    batch, *sizes = shape
    first = channels_first(sizes)
    if image_size is not None:
        given = (None, *image_size) if first else (*image_size, None)
        sizes = [size or other for size, other in zip(sizes, given, strict=True)]
    if not first and sizes[2] is None:
        sizes[2] = 3  # RGB, if nobody says otherwise
    one, two, three = sizes
    if one is not None and two is not None and three is not None:
        known = (one, two, three)
        refuse_large_images(what, batch, known)
        return batch, known
    words = "x".join("?" if size is None else str(size) for size in sizes)
    raise ModelError(
        f"{what} takes images of {words}, whose height and width are open; give --image-size"
    )


def _input(model: Any) -> tuple[Sequence[int | None], str]:
    """Shape, batch included, and type of the only input."""
    shape = getattr(model, "input_shape", None)
    if shape is None and hasattr(model, "get_build_config"):
        shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None:  # a subclassed model that builds itself; RGB, if nobody says otherwise
        shape = (None, None, None, 3)
    if not all(size is None or isinstance(size, int) for size in shape):
        raise ModelError(f"the model has several inputs {shape}; one, the image, is needed")
    inputs = getattr(model, "inputs", None)
    dtype = getattr(inputs[0], "dtype", "float32") if inputs else "float32"
    return tuple(shape), str(getattr(dtype, "name", dtype))  # Keras 2 gives TensorFlow's object


def open_saved_model(
    path: Path,
    *,
    trust: bool = False,
    image_size: tuple[int, int] | None = None,
    wanted: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> LoadedModel:
    """Loads the graph of a SavedModel; its Python code, if any, is not part of it.

    Args:
        path: The folder.
        trust: Operators that do more than compute may run, and files outside of it may be read.
        image_size: Height and width, where the model leaves them open.
        wanted: Names of the outputs that hold the logits.
        beside: Names of further outputs, which are joined with the logits.

    Raises:
        ModelError: The folder is damaged, needs trust, or its serving signature takes no image.
        UnavailableError: TensorFlow is missing.
    """
    tf = _tensorflow()
    try:
        with nullcontext(path) if trust else checked_copy(path) as source:
            loaded = tf.saved_model.load(str(source))
        signature = loaded.signatures[_SERVED]
        inputs = dict(signature.structured_input_signature[1])
        _refuse_nan(signature.variables)
        parameters = _count(signature.variables)
    except VitedgeError:
        raise
    except Exception as error:  # TensorFlow raises its own kinds, KeyError and AssertionError
        raise ModelError(
            f"'{path}' holds no SavedModel that can be served: {first_line(error)}"
        ) from error
    if len(inputs) != 1:
        raise ModelError(f"'{path}' takes {len(inputs)} inputs; one, the image, is needed")
    ((name, specification),) = inputs.items()
    shape = specification.shape.as_list() if specification.shape.rank is not None else []
    batch, sizes = _sizes(f"'{path}'", shape, image_size)

    def selected(image: Any) -> tuple[Any, tuple[str, ...]]:
        # By way of `loaded`, whose variables would go with it.
        return select_logits(loaded.signatures[_SERVED](**{name: image}), wanted, (), beside)

    return LoadedModel(selected, sizes, batch, specification.dtype.name, parameters)
