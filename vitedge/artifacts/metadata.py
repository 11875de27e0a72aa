"""The description inside an artefact, and how to read it without any engine.

The same JSON travels in each format's own metadata: a ``Metadata`` entry of the TFLite
flatbuffer, a ``metadata_props`` entry of the ONNX protobuf, ``rt_info`` of the OpenVINO XML.
The formats' records have the readers, which walk just far enough into each file to find it, so a
device needs no schema package, and a file of gigabytes is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.narrowing import Narrowing
from vitedge.artifacts.token_merging import TokenMerging
from vitedge.errors import ModelError, UsageError
from vitedge.files import json_values
from vitedge.files.limits import refuse_long_text
from vitedge.files.weights_digest import WEIGHTS_KEY, demand_own_weights
from vitedge.images.preprocess import Preprocessing
from vitedge.network.agreement import agreement
from vitedge.network.tasks import Task
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores

METADATA_KEY = "vitedge"

# ONNX has no place of its own that says how to read integer logits: (integer - zero) * scale.
LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY = "vitedge.logits_scale", "vitedge.logits_zero_point"
SCHEMA_VERSION = 2
"""Files of classes are of schema 1, which is all that vitedge 0.1 reads: it would take a softmax of
whatever it is given."""

# Of models that `vitedge convert` reads.
_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5", ".safetensors", ".pt", ".pth", ".ckpt", ".npz")

CHANNELS_FIRST_PIXELS = "pixel_values"
"""The input's name in ONNX files for Hugging Face's clients, whose pixels are ``(N, C, H, W)``."""


@dataclass(frozen=True)
class Source:
    """The origin of the weights.

    Attributes:
        name: File name of the source model.
        sha256: Digest of its bytes, in hex.
        path: The way in which it was read: ``by name: timm``, ``lifted: ...``, ``generic: why``.
    """

    name: str
    sha256: str
    path: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Source:
        """Reads it from JSON; raises ``ValueError``."""
        return cls(*(json_values.text(values, key) for key in ("name", "sha256", "path")))


@dataclass(frozen=True)
class Calibration:
    """The images that the activation ranges were measured on.

    Attributes:
        kind: ``images`` or ``synthetic``.
        n: The number of images.
        sha256: Digest of the pixels, in the order used.
        images: Short digests of the files, of many the smallest; see ``images.image_digests``.
            Empty where they are synthetic, or an older vitedge has not recorded them.
    """

    kind: str
    n: int
    sha256: str
    images: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"calibration": values}, "calibration")
        return cls(
            kind=json_values.text(values, "kind"),
            n=json_values.whole(values, "n"),
            sha256=json_values.text(values, "sha256"),
            images=json_values.texts(values, "images") if "images" in values else (),
        )


@dataclass(frozen=True)
class Parity:
    """Logits of the artefact in its own runtime against the float32 reference.

    Attributes:
        n: Images compared.
        max_difference: Largest absolute difference of any logit.
        relative_difference: ``max_difference`` divided by the range of the reference's logits.
        agreement: Share of images, 0..1, with the same top class, or of labels with the same
            answer; None where the outputs are numbers.
        sqnr_db: Power of the reference's logits over power of the difference, in decibel;
            None when they are equal to the bit.
    """

    n: int
    max_difference: float
    relative_difference: float
    agreement: float | None
    sqnr_db: float | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Parity | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"parity": values}, "parity")
        return cls(
            n=json_values.whole(values, "n"),
            max_difference=json_values.number(values, "max_difference"),
            relative_difference=json_values.number(values, "relative_difference"),
            agreement=_number_or_none(values, "agreement"),
            sqnr_db=_number_or_none(values, "sqnr_db"),
        )

    @classmethod
    def of(
        cls,
        made: npt.NDArray[np.float32],
        reference: npt.NDArray[np.float32],
        task: Task = Task.CLASSES,
        scores: Scores = Scores.LOGITS,
    ) -> Parity:
        """Compares outputs ``(N, ...)`` with the reference's; NaN counts as infinitely far."""
        difference = np.abs(np.where(np.isnan(made), np.inf, made) - reference)
        noise = float(np.square(difference, dtype=np.float64).sum())
        signal = float(np.square(reference, dtype=np.float64).sum())
        return cls(
            n=len(reference),
            max_difference=float(difference.max()),
            relative_difference=float(difference.max() / max(np.ptp(reference), 1e-30)),
            agreement=agreement(task, made, reference, scores.middle),
            sqnr_db=10 * (math.log10(max(signal, 1e-300)) - math.log10(noise)) if noise else None,
        )


FLOAT_FOR_ACCURACY = "float for accuracy"
"""The word of ``Metadata.quantization`` for the layers whose integers would be too coarse."""

FLOAT_FOR_RUNTIME = "float for its runtime"
"""The word for the layers whose integers the runtime computes more coarsely than was simulated."""

FLOAT32_FOR_ACCURACY = "float32 between integers"
"""The word for what is too coarse in bfloat16, which some processors compute floats in."""

FLOAT_OF_LITTLE_WORK = "float for much of the error and little work"
"""The word for the layers that win much accuracy in float and take little time there."""


@dataclass(frozen=True)
class Metadata:
    """Everything an app, a person or an auditor wants to know about an artefact.

    Attributes:
        format: Format of the file.
        precision: Its precision.
        labels: One name per class, or empty.
        preprocessing: The steps from an image to pixels; the artefact itself normalises them.
        source: The source of the weights.
        rewrites: Exact rewrites that were applied, in order, those of the quantizer last.
        quantization: The layers that were quantized, and how, in words per kind of layer.
        calibration: The images that were used, or None when none were.
        versions: Packages that made the file, by name.
        parameters: Number of weights of the source, or 0 when unknown.
        macs: Multiply-accumulates of one image, or 0 when unknown.
        parity: The comparison after writing; None only while that is being made.
        merging: The places where tokens are merged, if any. Parity is against the model that merges
            them.
        narrowing: The heads and hidden channels that were removed, if any. Parity is against the
            narrower model.
        scores: The meaning of the first output for each class; logits in files that do not say.
        task: The meaning of the first output; classes in files that do not say.
    """

    format: Format
    precision: Precision
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    source: Source
    rewrites: tuple[str, ...] = ()
    quantization: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    macs: int = 0
    parity: Parity | None = None
    scores: Scores = Scores.LOGITS
    merging: TokenMerging | None = None
    narrowing: Narrowing | None = None
    task: Task = Task.CLASSES

    @property
    def multiplies_rounding(self) -> bool:
        """Whether the model multiplies rounding errors so much that bfloat16 is too coarse."""
        return FLOAT32_FOR_ACCURACY in self.quantization

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back."""
        schema = 1 if self.task is Task.CLASSES else SCHEMA_VERSION
        values = {"schema": schema} | asdict(self)
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: The text is not JSON, or of another schema.
        """
        values = json_values.parse_object(text)
        if values.get("schema") not in (1, SCHEMA_VERSION):
            raise ValueError(f"metadata is not of schema 1 or {SCHEMA_VERSION}")
        try:
            return cls(
                format=Format(json_values.text(values, "format")),
                precision=Precision(json_values.text(values, "precision")),
                labels=json_values.texts(values, "labels"),
                preprocessing=Preprocessing.from_dict(json_values.mapping(values, "preprocessing")),
                source=Source.from_dict(json_values.mapping(values, "source")),
                rewrites=json_values.texts(values, "rewrites"),
                quantization=json_values.text_mapping(values, "quantization"),
                calibration=Calibration.from_dict(values["calibration"]),
                versions=json_values.text_mapping(values, "versions"),
                parameters=json_values.whole(values, "parameters"),
                macs=json_values.whole(values, "macs"),
                parity=Parity.from_dict(values["parity"]),
                scores=_scores(values),
                merging=TokenMerging.from_dict(values.get("merging")),
                narrowing=Narrowing.from_dict(values.get("narrowing")),
                task=_task(values),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"metadata is incomplete or malformed: {error}") from error


def _number_or_none(values: Mapping[str, Any], key: str) -> float | None:
    return None if values.get(key) is None else json_values.number(values, key)


def _scores(values: Mapping[str, Any]) -> Scores:
    if "scores" not in values:  # as in files of vitedge 0.1
        return Scores.LOGITS
    return Scores(json_values.text(values, "scores"))


def _task(values: Mapping[str, Any]) -> Task:
    return Task(json_values.text(values, "task")) if "task" in values else Task.CLASSES


def format_of(path: Path) -> Format:
    """The artefact format that a file's extension names.

    Raises:
        UsageError: The extension is none of an artefact's.
    """
    for candidate in all_formats():
        if path.suffix.lower() == candidate.suffix:
            return candidate
    known = ", ".join(candidate.suffix for candidate in all_formats())
    is_saved_model = (path / "saved_model.pb").is_file()
    if path.is_dir() and not is_saved_model:
        suffixes = {candidate.suffix for candidate in all_formats()}
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in suffixes)
        advice = f"name a file in it, such as '{inside[0]}'" if inside else f"name a file ({known})"
        raise UsageError(f"'{path}' is a folder, not an artefact: {advice}")
    if is_saved_model or (path.suffix.lower() in _MODEL_SUFFIXES and path.is_file()):
        raise UsageError(
            f"'{path}' is a model to convert first: `vitedge convert --int8 {path}` makes "
            f"artefacts of it ({known})"
        )
    raise UsageError(f"'{path}' is not an artefact: its extension is none of {known}")


def files_of(path: Path) -> tuple[Path, ...]:
    """Every file that makes up an artefact: the one named first.

    Beside it lie OpenVINO's weights, and those of an ONNX model of over 2 GiB.
    """
    return path, *format_of(path).record.beside(path)


def size_of(path: Path) -> int:
    """Bytes of all files of an artefact."""
    return sum(part.stat().st_size for part in files_of(path))


def read_metadata(path: Path) -> Metadata | None:
    """Reads an artefact's metadata; None when vitedge did not write the file.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file is missing, truncated, not of its format, its metadata is garbled, or
            the weights beside it are not its own.
    """
    texts = read_texts(path)
    try:
        text = texts.get(METADATA_KEY)
        refuse_long_text(f"the metadata of '{path}'", len(text or ""))
        found = None if text is None else Metadata.from_json(text)
    except ValueError as error:
        raise ModelError(
            f"'{path}' is truncated or not a readable {format_of(path)} file ({error})"
        ) from error
    digest = texts.get(WEIGHTS_KEY)
    if digest is not None:
        for weights in files_of(path)[1:]:
            demand_own_weights(path, weights, digest)
    return found


def read_texts(path: Path) -> Mapping[str, str]:
    """Reads what vitedge wrote into an artefact, by key; empty when vitedge did not write it.

    Raises:
        UsageError: The extension is none of an artefact's.
        ModelError: The file is missing, truncated or not of its format.
    """
    for part in files_of(path):
        if not part.is_file():
            raise ModelError(f"there is no file '{part}'")
    try:
        return format_of(path).record.read_texts(path)
    except (ValueError, struct.error, LookupError, ElementTree.ParseError) as error:
        raise ModelError(
            f"'{path}' is truncated or not a readable {format_of(path)} file ({error})"
        ) from error


def read_logits_grid(path: Path) -> tuple[float, int]:
    """Scale and zero point of an ONNX artefact's integer logits; 1 and 0 where they are floats.

    Raises:
        ModelError: The file is missing or unreadable, or one of them is not a number.
    """
    texts = read_texts(path)
    try:
        return float(texts.get(LOGITS_SCALE_KEY, 1.0)), int(texts.get(LOGITS_ZERO_POINT_KEY, 0))
    except (ValueError, OverflowError) as error:
        raise ModelError(f"'{path}' has a malformed grid of its logits ({error})") from error


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, or of all files of a folder by name, in hex."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    for part in files:
        if part != path:
            digest.update(os.fsencode(part.relative_to(path)))
        with part.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
