"""The vocabulary: formats, precisions, targets, and the choices that describe a ViT."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """A file format that a runtime executes."""

    TFLITE = "tflite"
    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def suffix(self) -> str:
        """The extension of the artefact's (main) file, with its dot."""
        return ".xml" if self is Format.OPENVINO else f".{self}"


class Precision(StrEnum):
    """Which numbers of an artefact are stored and computed how."""

    FP32 = "fp32"
    FP16 = "fp16"
    """Half-precision weights."""
    INT8 = "int8"
    """8-bit linear layers; everything between them stays float."""
    INT8_STATIC = "int8-static"
    """Integers from the pixels to the logits, for NPUs: 8 bits where there are products, 16 in
    the residual stream and its norms."""
    W8A16 = "w8a16"
    """Integers from the pixels to the logits: 8-bit weights, 16-bit activations."""
    INT4 = "int4"
    """4-bit weights with a scale for each group of them."""

    @property
    def is_float(self) -> bool:
        """Whether nothing in it is an integer."""
        return self in (Precision.FP32, Precision.FP16)

    @property
    def all_integer(self) -> bool:
        """Whether no operator computes in float."""
        return self in (Precision.INT8_STATIC, Precision.W8A16)


class Layout(StrEnum):
    """A folder as the clients of a model hub take it."""

    HUGGING_FACE = "huggingface"
    """transformers.js and Optimum: ONNX files with configs."""
    LITERT_COMMUNITY = "litert-community"
    """TFLite files with labels and a card."""


class Scores(StrEnum):
    """What an artefact gives for each class; the output has the same name."""

    LOGITS = "logits"
    """The head's numbers as they are: their softmax is what is probable."""
    PROBABILITIES = "probabilities"
    """Their softmax."""


class Activation(StrEnum):
    """The non-linearity of the MLP."""

    GELU = "gelu"
    """Exact: x Φ(x) (Hendrycks & Gimpel, arXiv:1606.08415)."""
    GELU_TANH = "gelu_tanh"
    """The tanh approximation of the same paper."""
    QUICK_GELU = "quick_gelu"
    """x sigmoid(1.702 x), as in CLIP."""
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"


class Pooling(StrEnum):
    """Which tokens the head reads, and how they become one vector."""

    CLASS = "class"
    """The first token."""
    DISTILLED = "distilled"
    """The first two tokens (class and distillation), concatenated: ``(2 * dim,)``."""
    MEAN = "mean"
    """The mean of the patch tokens."""
    CLASS_AND_MEAN = "class_and_mean"
    """The first token and the mean of the patch tokens, concatenated: ``(2 * dim,)``."""
    FLATTEN = "flatten"
    """All tokens, concatenated: ``(tokens * dim,)``."""


class NormPosition(StrEnum):
    """Where a block normalises: before its sublayers (ViT) or after the sum (BERT)."""

    PRE = "pre"
    POST = "post"


class NormKind(StrEnum):
    """LayerNorm, RMSNorm (no centring), or L2 norm (the vector over its length)."""

    LAYER = "layer"
    RMS = "rms"
    L2 = "l2"


class Interpolation(StrEnum):
    """Pillow's resampling filters that vision libraries use; all of them antialias."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


@dataclass(frozen=True, order=True)
class Target:
    """A runtime and the device it shall use, written ``<runtime>-<device>``."""

    runtime: str
    device: str

    def __str__(self) -> str:
        return f"{self.runtime}-{self.device}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``tflite-cpu``.

        Raises:
            ValueError: There is no dash, or nothing on one side of it.
        """
        runtime, _, device = text.partition("-")
        if not runtime or not device:
            raise ValueError(
                f"'{text}' is not a target; write <runtime>-<device>, such as tflite-cpu "
                "(`vitedge targets` lists them)"
            )
        return cls(runtime, device)


class Task(StrEnum):
    """What a model's outputs mean."""

    CLASSES = "classes"
    """One of several classes is right; a softmax over the outputs gives their probabilities."""
