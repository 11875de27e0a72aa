"""What an artefact says about itself, and how to read it without any engine.

The same JSON travels in each format's own metadata: a ``Metadata`` entry of the TFLite
flatbuffer, a ``metadata_props`` entry of the ONNX protobuf, ``rt_info`` of the OpenVINO XML.
The readers below walk just far enough into each file to find it, so a device needs no schema
package, and a file of gigabytes is not loaded. A TFLite file is verified on the way.
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
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, UsageError
from vitedge.files import json_values
from vitedge.files.limits import refuse_long_text
from vitedge.files.tflite_verifier import open_verified
from vitedge.files.weights_digest import WEIGHTS_KEY, demand_own_weights
from vitedge.images.preprocess import Preprocessing
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores

METADATA_KEY = "vitedge"
ONNX_DATA_SUFFIX = ".data"

# ONNX has no place of its own that says how to read integer logits: (integer - zero) * scale.
LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY = "vitedge.logits_scale", "vitedge.logits_zero_point"
SCHEMA_VERSION = 1

# Of models that `vitedge convert` reads.
_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5", ".safetensors", ".pt", ".pth", ".ckpt", ".npz")

CHANNELS_FIRST_PIXELS = "pixel_values"
"""The input's name in ONNX files for Hugging Face's clients, whose pixels are ``(N, C, H, W)``."""


@dataclass(frozen=True)
class Source:
    """Where the weights came from.

    Attributes:
        name: File name of the source model.
        sha256: Digest of its bytes, in hex.
        path: How it was read: ``by name: timm``, ``lifted: ...``, ``generic: why``.
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
    """Which images the activation ranges were measured on.

    Attributes:
        kind: ``images`` or ``synthetic``.
        n: How many.
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
        relative_difference: The same, divided by the range of the reference's logits.
        agreement: Share of images, 0..1, with the same top class.
        sqnr_db: Power of the reference's logits over power of the difference, in decibel;
            None when they are equal to the bit.
    """

    n: int
    max_difference: float
    relative_difference: float
    agreement: float
    sqnr_db: float | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Parity | None:
        """Reads it from JSON, where it may be null; raises ``ValueError``."""
        if values is None:
            return None
        values = json_values.mapping({"parity": values}, "parity")
        no_noise = values.get("sqnr_db") is None
        return cls(
            n=json_values.whole(values, "n"),
            max_difference=json_values.number(values, "max_difference"),
            relative_difference=json_values.number(values, "relative_difference"),
            agreement=json_values.number(values, "agreement"),
            sqnr_db=None if no_noise else json_values.number(values, "sqnr_db"),
        )

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Parity:
        """Compares logits ``(N, classes)`` with the reference's; NaN counts as infinitely far."""
        difference = np.abs(np.where(np.isnan(logits), np.inf, logits) - reference)
        noise = float(np.square(difference, dtype=np.float64).sum())
        signal = float(np.square(reference, dtype=np.float64).sum())
        return cls(
            n=len(reference),
            max_difference=float(difference.max()),
            relative_difference=float(difference.max() / max(np.ptp(reference), 1e-30)),
            agreement=float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
            sqnr_db=10 * (math.log10(max(signal, 1e-300)) - math.log10(noise)) if noise else None,
        )


@dataclass(frozen=True)
class Metadata:
    """Everything an app, a person or an auditor wants to know about an artefact.

    Attributes:
        format: Format of the file.
        precision: Its precision.
        labels: One name per class, or empty.
        preprocessing: How an image becomes pixels; the artefact itself normalises them.
        source: Where the weights came from.
        rewrites: Exact rewrites that were applied, in order, those of the quantizer last.
        quantization: What was quantized how, in words per kind of layer.
        calibration: The images that were used, or None when none were.
        versions: Packages that made the file, by name.
        parameters: Number of weights of the source, or 0 when unknown.
        macs: Multiply-accumulates of one image, or 0 when unknown.
        parity: What was measured after writing; None only while that is being done.
        scores: What the first output gives for each class; logits in files that do not say.
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

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back."""
        values = {"schema": SCHEMA_VERSION} | asdict(self)
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: The text is no JSON, or of another schema.
        """
        values = json_values.parse_object(text)
        if values.get("schema") != SCHEMA_VERSION:
            raise ValueError(f"metadata is not of schema {SCHEMA_VERSION}")
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
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"metadata lacks or garbles a value: {error}") from error


def _scores(values: Mapping[str, Any]) -> Scores:
    if "scores" not in values:  # as in files of vitedge 0.1
        return Scores.LOGITS
    return Scores(json_values.text(values, "scores"))


def format_of(path: Path) -> Format:
    """The artefact format that a file's extension names.

    Raises:
        UsageError: The extension is none of an artefact's.
    """
    for candidate in Format:
        if path.suffix.lower() == candidate.suffix:
            return candidate
    known = ", ".join(candidate.suffix for candidate in Format)
    is_saved_model = (path / "saved_model.pb").is_file()
    if path.is_dir() and not is_saved_model:
        suffixes = {candidate.suffix for candidate in Format}
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
    match format_of(path):
        case Format.OPENVINO:
            return path, path.with_suffix(".bin")
        case Format.ONNX:
            data = path.with_name(path.name + ONNX_DATA_SUFFIX)
            return (path, data) if data.exists() else (path,)
        case Format.TFLITE:
            return (path,)


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
        raise ModelError(f"'{path}' is truncated or no {format_of(path)} file ({error})") from error
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
    reader = {
        Format.TFLITE: _read_tflite,
        Format.ONNX: _read_onnx,
        Format.OPENVINO: _read_openvino,
    }[format_of(path)]
    for part in files_of(path):
        if not part.is_file():
            raise ModelError(f"there is no file '{part}'")
    try:
        return reader(path)
    except (ValueError, struct.error, LookupError, ElementTree.ParseError) as error:
        raise ModelError(f"'{path}' is truncated or no {format_of(path)} file ({error})") from error


def read_logits_grid(path: Path) -> tuple[float, int]:
    """Scale and zero point of an ONNX artefact's integer logits; 1 and 0 where they are floats.

    Raises:
        ModelError: The file is missing or unreadable, or one of them is no number.
    """
    texts = read_texts(path)
    try:
        return float(texts.get(LOGITS_SCALE_KEY, 1.0)), int(texts.get(LOGITS_ZERO_POINT_KEY, 0))
    except ValueError as error:
        raise ModelError(f"'{path}' garbles the grid of its logits ({error})") from error


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


# --- TFLite: https://github.com/google-ai-edge/LiteRT, schema.fbs ------------------------------

_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def _read_tflite(path: Path) -> Mapping[str, str]:
    with open_verified(path) as root, path.open("rb") as stream:
        buffers = root.tables(_MODEL_BUFFERS)
        for entry in root.tables(_MODEL_METADATA):
            if entry.content(_METADATA_NAME) != METADATA_KEY.encode():
                continue
            buffer = buffers[entry.number(_METADATA_BUFFER, "I")]
            offset = buffer.number(_BUFFER_OFFSET, "Q")
            if offset <= 1:
                return {METADATA_KEY: buffer.content(_BUFFER_DATA).decode()}
            stream.seek(offset)  # past 2 GiB, buffers lie behind the flatbuffer
            return {METADATA_KEY: stream.read(buffer.number(_BUFFER_SIZE, "Q")).decode()}
    return {}


# --- ONNX: https://github.com/onnx/onnx, onnx.proto ---------------------------------------------

_MODEL_PROTO_METADATA_PROPS = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LENGTH_DELIMITED = 2


def _read_onnx(path: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    with path.open("rb") as stream:
        size = path.stat().st_size
        if not size:
            raise ValueError("empty file")
        while stream.tell() < size:
            number, payload = _protobuf_field(stream, size, _MODEL_PROTO_METADATA_PROPS)
            if number != _MODEL_PROTO_METADATA_PROPS:
                continue
            entry = _protobuf_strings(payload)
            for key in (METADATA_KEY, WEIGHTS_KEY, LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY):
                if entry.get(_ENTRY_KEY) == key.encode():
                    found[key] = entry.get(_ENTRY_VALUE, b"").decode()
    return found


def _protobuf_field(stream: BinaryIO, size: int, wanted: int) -> tuple[int, bytes]:
    """Reads one field; the payload only when it is the wanted one, else skips it."""
    tag = _varint(stream)
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise ValueError("a protobuf field has number 0")
    if wire == 0:
        _varint(stream)
        return number, b""
    lengths = {1: 8, 5: 4}
    if wire != _LENGTH_DELIMITED and wire not in lengths:
        raise ValueError(f"unknown protobuf wire type {wire}")
    length = _varint(stream) if wire == _LENGTH_DELIMITED else lengths[wire]
    if stream.tell() + length > size:
        raise ValueError("a protobuf field reaches past the end of the file")
    if number == wanted and wire == _LENGTH_DELIMITED:
        return number, stream.read(length)
    stream.seek(length, os.SEEK_CUR)
    return number, b""


def _protobuf_strings(payload: bytes) -> dict[int, bytes]:
    import io

    stream, found = io.BytesIO(payload), {}
    while stream.tell() < len(payload):
        tag = _varint(stream)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError("a metadata entry holds something else than strings")
        found[tag >> 3] = stream.read(_varint(stream))
    return found


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a protobuf number has over ten bytes")


# --- OpenVINO -----------------------------------------------------------------------------------


def _read_openvino(path: Path) -> Mapping[str, str]:
    # The network comes first and rt_info last, so read events and drop the layers on the way.
    root = None
    with path.open("rb") as stream:
        for _, element in ElementTree.iterparse(stream):
            if element.tag == "layer":
                element.clear()
            root = element
    if root is None or root.tag != "net":
        raise ValueError("no <net> element")
    found = {}
    for key in (METADATA_KEY, WEIGHTS_KEY):
        entry = root.find(f"rt_info/{key}")
        value = None if entry is None else entry.get("value")
        if value is not None:
            found[key] = value
    return found
